"""Nothing that a run folder says can become markup."""

import html.parser
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnicomm.report import Html, element, figure, table
from dnicomm.report.markup import embedded


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.attributes = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


texts = st.text(st.sampled_from("<>&\"'/scriptab \u2028]-!=") | st.characters(codec="utf-8"))


@given(texts, texts)
def test_text_and_attributes_stay_text(text, attribute):
    made = Tags(element("p", text, title=attribute))
    assert made.tags == ["p"]
    assert made.text == text.replace("\r\n", "\n").replace("\r", "\n") or made.text == text
    assert dict(made.attributes)["title"] == attribute


@given(st.dictionaries(texts, texts | st.floats(allow_nan=False, allow_infinity=False)))
def test_embedded_data_comes_back_and_never_ends_its_element(data):
    made = embedded(data, "data")
    inside = made.removeprefix('<script type="application/json" id="data">')
    inside = inside.removesuffix("</script>")
    assert not set("<>&\u2028\u2029") & set(inside)
    assert json.loads(inside) == data


def test_numbers_that_are_not_finite_are_null():
    inside = embedded({"a": [float("nan"), float("inf"), 1.5]}, "x").partition(">")[2]
    assert json.loads(inside.removesuffix("</script>")) == {"a": [None, None, 1.5]}


def test_markup_is_kept_and_nothing_is_left_out_but_none():
    assert element("b", Html("<i>x</i>"), None, 0) == "<b><i>x</i>0</b>"
    assert element("input", disabled=True, hidden=False, class_="c") == '<input disabled class="c">'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),  # noqa: RUF001
        (float("nan"), "–"),  # noqa: RUF001
        (1234567, "1,234,567"),
        (0.5, "0.500"),
        (0.0, "0.000"),
        (0.00012, "1.20e-04"),
        (12345.6, "12,346"),
        (1.5e7, "1.50e+07"),
    ],
)
def test_figures(value, written):
    assert figure(value) == written


def test_a_table_has_heads_and_numbers_to_sort_by():
    made = table(["who", "how much"], [["<b>", 0.5], ["b", None], ["c", (2.0, "2 (1)")]], "what")
    assert "&lt;b&gt;" in made
    assert 'data-value="0.5"' in made
    assert '<td class="number" data-value="2.0">2 (1)</td>' in made
    assert '<th scope="col">who</th>' in made
    assert '<th scope="row">b</th>' in made
