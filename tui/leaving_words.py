"""What `q` says when leaving would leave something undone: at most once, and only if it is true."""

from tui.moment import Moment
from tui.panels.top import others


def left_undone(moment: Moment, *, busy: bool, width: int) -> str:
    """One sentence that ends in what `q` would do, in `width` cells if it can be; empty: nothing is left undone."""
    acts = [act for line in moment.board.lines.values() for act in line.unsettled() if act.kind != "tell"]
    if busy:
        count = len(acts) or 1
        noun = "act is" if count == 1 else "acts are"
        return f"{count} {noun} on the way: q again leaves, a read settles it"
    if not moment.view.here or others(moment):
        return ""
    calls = [line.call for line in moment.board.lines.values() if line.call is not None]
    if calls:
        words = f"{calls[0].who}'s call on {calls[0].line} counts down"
        if len(calls) > 1:
            words = f"{len(calls)} calls count down"
        return f"{words}, nobody else is here to stop it: q again to leave"
    open_ = sum(
        not watch.ended and watch.until > moment.now
        for line in moment.board.lines.values()
        for watch in line.watches.values()
    )
    if not open_:
        return "nobody else is running: q again to leave the lines unwatched"
    noun = "deployment is" if open_ == 1 else "deployments are"
    words = f"{open_} {noun} being watched here, nobody else is running: q again to leave "
    whole = words + ("it unwatched" if open_ == 1 else "them unwatched")
    return whole if len(whole) <= width else words.strip()
