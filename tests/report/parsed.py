"""A page as a parser sees it, and what a hostile model would like to write into it."""

import re
from html.parser import HTMLParser

HOSTILE = "</td></script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


class Page(HTMLParser):
    """The texts and elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def rows(html: str, caption: str) -> list[list[str]]:
    """The cells of the first table of that caption, as text."""
    table = html.partition(f"<caption>{caption}</caption>")[2].partition("</table>")[0]
    return [
        [_one_line(cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    ]


def _one_line(html: str) -> str:
    """The text of an element; blocks in it are kept apart."""
    return re.sub(r"\s+", " ", Page(html.replace("</div>", "</div> ")).text).strip()
