"""`andon completion`: what a shell completes, made from the options that the command line itself has."""

import argparse
from typing import NamedTuple

from tui.printing import out

SHELLS = ("bash", "zsh", "fish")
FILES = ("-c", "--config", "--ledger")
"""Options that take a file."""


class Option(NamedTuple):
    """An option, as a shell is told of it."""

    names: tuple[str, ...]
    words: str
    takes: str
    """What it takes; empty: nothing."""
    choices: tuple[str, ...] = ()


class Part(NamedTuple):
    """What can stand after a command, or before any."""

    words: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]
    """What its own words can be."""
    files: bool
    """Whether one of its own words is a file."""


def completion(args: argparse.Namespace) -> int:
    """Print the script for a shell."""
    from tui.cli import parser

    whole, commands = tree(parser())
    out(None, argparse.Namespace(), {"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](whole, commands))
    return 0


def tree(parser: argparse.ArgumentParser) -> tuple[Part, dict[str, Part]]:
    """What can stand before a command, and each command with what can stand after it."""
    commands: dict[str, Part] = {}
    for action in _actions(parser):
        if isinstance(action.choices, dict):  # the commands
            words = {item.dest: item.help or "" for item in getattr(action, "_choices_actions", ())}
            commands = {name: _part(words.get(name, ""), one) for name, one in action.choices.items()}
    return _part("", parser), commands


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found: list[argparse.Action] = parser._actions  # noqa: SLF001 - argparse has no other way to ask
    return found


def _part(words: str, parser: argparse.ArgumentParser) -> Part:
    options: list[Option] = []
    choices: list[str] = []
    files = False
    for action in _actions(parser):
        if isinstance(action.choices, dict):
            continue
        known = tuple(str(choice) for choice in action.choices or ())
        if action.option_strings:
            takes = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
            options.append(Option(tuple(action.option_strings), action.help or "", takes, known))
        else:
            choices += known
            files = files or action.metavar == "FILE"
    return Part(words, tuple(options), tuple(choices), files)


def _names(part: Part) -> str:
    return " ".join(name for option in part.options for name in option.names)


def _bash(whole: Part, commands: dict[str, Part]) -> str:
    takes = "|".join(name for option in whole.options if option.takes for name in option.names)
    lines = [
        "# andon completion bash > ~/.local/share/bash-completion/completions/andon",
        "_andon() {",
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word skip= at",
        "    for ((at = 1; at < COMP_CWORD; at++)); do",
        "        word=${COMP_WORDS[at]}",
        "        if [[ -n $skip ]]; then skip=; continue; fi",
        f"        case $word in {takes}) skip=1 ;; -*) ;; *) command=$word; break ;; esac",
        "    done",
        "    COMPREPLY=()",
        f'    case $prev in {"|".join(FILES)}) COMPREPLY=($(compgen -f -- "$cur")); return ;; esac',
        "    case $command in",
        f"        '') COMPREPLY=($(compgen -W '{_names(whole)} {' '.join(commands)}' -- \"$cur\")) ;;",
    ]
    for name, part in commands.items():
        for option in part.options:
            if option.choices:
                again = "|".join(option.names)
                lines.append(
                    f"        {name}) case $prev in {again}) "
                    f"COMPREPLY=($(compgen -W '{' '.join(option.choices)}' -- \"$cur\")); return ;; esac ;;&"
                )
        words = f"{_names(part)} {' '.join(part.choices)}".strip()
        files = ' $(compgen -f -- "$cur")' if part.files else ""
        lines.append(f"        {name}) COMPREPLY=($(compgen -W '{words}' -- \"$cur\"){files}) ;;")
    return "\n".join([*lines, "    esac", "}", "complete -F _andon andon"])


def _zsh(whole: Part, commands: dict[str, Part]) -> str:
    lines = ["#compdef andon", "# andon completion zsh > a folder of $fpath, as _andon", "_andon() {"]
    lines += ["    local -a commands", "    commands=("]
    lines += [f"        {_quoted(f'{name}:{part.words}')}" for name, part in commands.items()]
    lines += ["    )", "    local context state state_descr line", "    typeset -A opt_args", "    _arguments -C \\"]
    lines += [f"        {words} \\" for option in whole.options for words in _zsh_option(option)]
    lines += [
        "        '1: :->command' '*:: :->rest'",
        "    case $state in",
        "        command) _describe command commands ;;",
    ]
    lines += ["        rest) case $words[1] in"]
    for name, part in commands.items():
        given = [words for option in part.options for words in _zsh_option(option)]
        if part.choices:
            given.append(_quoted(f"*: :({' '.join(part.choices)})"))
        elif part.files:
            given.append(_quoted("*:file:_files"))
        lines.append(f"            {name}) _arguments {' '.join(given)} ;;")
    return "\n".join([*lines, "        esac ;;", "    esac", "}", '_andon "$@"'])


def _zsh_option(option: Option) -> list[str]:
    words = option.words.replace("[", "(").replace("]", ")").replace(":", "\\:")
    after = ""
    if option.choices:
        after = f":{option.takes}:({' '.join(option.choices)})"
    elif option.takes:
        after = f":{option.takes}:" + ("_files" if set(option.names) & set(FILES) else "")
    return [_quoted(f"{name}[{words}]{after}") for name in option.names]


def _fish(whole: Part, commands: dict[str, Part]) -> str:
    lines = ["# andon completion fish > ~/.config/fish/completions/andon.fish", "complete -c andon -f"]
    lines += [_fish_option("__fish_use_subcommand", option) for option in whole.options]
    for name, part in commands.items():
        lines.append(f"complete -c andon -n __fish_use_subcommand -a {name} -d {_quoted(part.words)}")
        seen = _quoted(f"__fish_seen_subcommand_from {name}")
        lines += [_fish_option(seen, option) for option in part.options]
        lines += [f"complete -c andon -n {seen} -a {_quoted(' '.join(part.choices))}"] if part.choices else []
        lines += [f"complete -c andon -n {seen} -F"] if part.files else []
    return "\n".join(lines)


def _fish_option(when: str, option: Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    takes = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -r" if option.takes else ""
    files = " -F" if set(option.names) & set(FILES) else ""
    return f"complete -c andon -n {when} {names}{takes}{files} -d {_quoted(option.words)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "’") + "'"
