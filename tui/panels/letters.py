"""Letters for a wall: names and figures that are read from six metres, in half blocks, five dots wide and ten high.

The dots of a letter are ten bytes, one a row, of which the five low bits count: eight rows above the line and two below.
At scale 1 a letter takes 6 × 5 cells with its blank, at scale 2 12 × 10.
"""

from tui.panels.sheet import Sheet

HIGH, WIDE = 10, 6
_LETTERS = {
    "a": "00000e010f11110f0000",
    "b": "10101e111111111e0000",
    "c": "00000f101010100f0000",
    "d": "01010f111111110f0000",
    "e": "00000e111f10100f0000",
    "f": "06081e08080808080000",
    "g": "00000f111111110f010e",
    "h": "10101e11111111110000",
    "i": "04000c040404040e0000",
    "j": "0200060202020202020c",
    "k": "101011121c1212110000",
    "l": "0c0404040404040e0000",
    "m": "00001e15151515150000",
    "n": "00001e11111111110000",
    "o": "00000e111111110e0000",
    "p": "00001e111111111e1010",
    "q": "00000f111111110f0101",
    "r": "00001718101010100000",
    "s": "00000f100e01011e0000",
    "t": "08081e08080808060000",
    "u": "000011111111110f0000",
    "v": "00001111110a0a040000",
    "w": "000011111515150a0000",
    "x": "0000110a04040a110000",
    "y": "000011111111110f010e",
    "z": "00001f020408101f0000",
    "0": "0e1113151519110e0000",
    "1": "040c04040404040e0000",
    "2": "0e1101020408101f0000",
    "3": "0e1101060101110e0000",
    "4": "02060a12121f02020000",
    "5": "1f10101e0101110e0000",
    "6": "0608101e1111110e0000",
    "7": "1f010102040408080000",
    "8": "0e11110e1111110e0000",
    "9": "0e1111110f01020c0000",
    "-": "000000000e0000000000",
    "%": "19190204040813130000",
    ".": "0000000000000c0c0000",
    ",": "0000000000000c0c0800",
    "/": "01010204040810100000",
    "?": "0e110102040400040000",
}
_LAMPS = {
    "●": ("011110", "111111", "111111", "111111", "111111", "011110"),
    "■": ("111111",) * 6,
    "◀": ("000011", "001111", "111111", "111111", "001111", "000011"),
    "▲": ("001100", "001100", "011110", "011110", "111111", "111111"),
    "○": ("011110", "110011", "100001", "100001", "110011", "011110"),
    "?": ("011110", "110011", "000011", "001110", "000000", "001100"),
    "·": ("000000", "000000", "001100", "001100", "000000", "000000"),
}
"""Six dots wide and high: what stands before a name."""
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def can(text: str) -> bool:
    """Whether there are letters for all of it."""
    return all(char in _LETTERS or char == " " for char in text)


def width(text: str, scale: int = 1) -> int:
    """How many cells it takes, without the blank after the last letter."""
    return max(0, len(text) * WIDE * scale - scale)


def height(scale: int = 1) -> int:
    """How many rows letters take, with what hangs below the line."""
    return HIGH * scale // 2


def letters(sheet: Sheet, x: int, y: int, text: str, role: str, *, scale: int = 1, bg: str = "") -> int:
    """Write `text` from column `x` and row `y` on; returns the column after its last blank."""
    rows = ["".join(_row(char, at) for char in text) for at in range(HIGH)]
    _dots(sheet, x, y, rows, role, scale, bg)
    return x + len(text) * WIDE * scale


def lamp(sheet: Sheet, x: int, y: int, sign: str, role: str, *, scale: int = 1) -> None:
    """A sign, six dots wide and high."""
    _dots(sheet, x, y, list(_LAMPS.get(sign, _LAMPS["·"])), role, scale, "")


def _row(char: str, at: int) -> str:
    bits = _LETTERS.get(char)
    return "0" * WIDE if bits is None else f"{int(bits[2 * at : 2 * at + 2], 16):05b}0"


def _dots(sheet: Sheet, x: int, y: int, rows: list[str], role: str, scale: int, bg: str) -> None:
    """Rows of dots, each of them `scale` cells wide and `scale` half rows high."""
    tall = [row for row in rows for _ in range(scale)]
    tall += ["0" * len(rows[0])] * (len(tall) % 2)
    for at in range(0, len(tall), 2):
        for dx, (above, below) in enumerate(zip(tall[at], tall[at + 1], strict=True)):
            half = _HALVES[above == "1", below == "1"]
            if half != " ":
                sheet.put(x + dx * scale, y + at // 2, half * scale, role, bg=bg)
