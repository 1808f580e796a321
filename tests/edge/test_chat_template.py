"""Chat templates, against what Transformers renders."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from outrider_common.errors import InvalidPromptError, ModelFileError
from outrider_edge.chat_template import ChatTemplate

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Say "<hé>".', "name": None},
]

# One template for each feature that templates of well-known models use.
TEMPLATES = {
    "special tokens": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
    "trimmed blocks": "{% for m in messages %}\n  {% if true %}\nA\n  {% endif %}\n{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}x{% endfor %}",
    "tojson": "{{ messages | tojson }}|{{ messages[1] | tojson(indent=2) }}",
    "generation blocks": "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "namespaces": """
        {%- set ns = namespace(n=0) %}
        {%- for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}
        {{- ns.n }}""",
    "absent tools": "{{ 'plain' if tools is none and documents is none else 'tools' }}",
    "prompt": "{{ add_generation_prompt }}",
    "macros": """
        {%- macro line(m) -%}
            {{ m['role'] ~ ': ' ~ m['content'] | trim }}
        {%- endmacro -%}
        {{ line(messages[0]) }}""",
}


def rendered_by_transformers(source: str, messages: Sequence[Mapping[str, Any]]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    plain = [{key: value for key, value in m.items() if value is not None} for m in messages]
    rendered: Any = render_jinja_template(
        [plain], chat_template=source, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    text: str = rendered[0][0]
    return text


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_it_renders_what_transformers_renders(source: str) -> None:
    assert template(source).render(CHAT) == rendered_by_transformers(source, CHAT)


def test_the_date_in_a_prompt_comes_from_the_clock_that_was_passed_in() -> None:
    clock = datetime(2026, 11, 21, tzinfo=UTC)
    dated = ChatTemplate("{{ strftime_now('%d %b %Y') }}", {}, now=lambda: clock)
    assert dated.render(CHAT) == "21 Nov 2026"


def test_keys_without_a_value_are_left_out() -> None:
    assert template("{{ 'name' in messages[1] }}").render(CHAT) == "False"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[5].content }}", "refuses this chat"),
        ("{{ 'a' + 1 }}", "refuses this chat"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
    ],
)
def test_a_chat_that_the_template_refuses_is_an_invalid_prompt(source: str, complaint: str) -> None:
    with pytest.raises(InvalidPromptError, match=complaint):
        template(source).render(CHAT)


def test_an_empty_chat_is_an_invalid_prompt() -> None:
    with pytest.raises(InvalidPromptError, match="no messages"):
        template("hello").render([])


def test_a_source_that_is_no_template_is_a_bad_model_file() -> None:
    with pytest.raises(ModelFileError, match="does not compile"):
        template("{% for m in messages %}")
