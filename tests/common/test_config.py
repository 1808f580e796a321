"""The settings: layers, origins, and sentences that name the culprit and the remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from outrider_common.config import SECTIONS, Settings
from outrider_common.config_loading import DEFAULT_ORIGIN, load_settings
from outrider_common.errors import ConfigError
from outrider_common.setting import Setting, all_settings, as_text
from outrider_common.settings.verifier import VerifierSettings

EVERY_SETTING = all_settings()


def write_file(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(text)
    return path


def complaint(
    file: Path | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environment, flags)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "pydantic" not in sentence
    return sentence


def test_without_any_layer_everything_has_its_default() -> None:
    loaded = load_settings()
    assert loaded.settings == Settings()
    assert set(loaded.origin) == {setting.name for setting in EVERY_SETTING}
    assert set(loaded.origin.values()) == {DEFAULT_ORIGIN}
    assert loaded.file is None


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().settings.verifier.port = 1


def test_a_file_wins_over_a_default_a_variable_over_a_file_and_a_flag_over_all(
    tmp_path: Path,
) -> None:
    file = write_file(tmp_path, "[verifier]\nport = 1\nmax_sessions = 2\nnum_threads = 3\n")
    loaded = load_settings(
        file,
        {"OUTRIDER_VERIFIER_PORT": "4", "OUTRIDER_VERIFIER_MAX_SESSIONS": "5"},
        {"verifier.port": "6"},
    )
    verifier = loaded.settings.verifier
    assert (verifier.port, verifier.max_sessions, verifier.num_threads) == (6, 5, 3)
    assert verifier.model == VerifierSettings().model
    assert loaded.origin["verifier.port"] == "--port"
    assert loaded.origin["verifier.max_sessions"] == "OUTRIDER_VERIFIER_MAX_SESSIONS"
    assert loaded.origin["verifier.num_threads"] == str(file)
    assert loaded.origin["verifier.model"] == DEFAULT_ORIGIN
    assert loaded.file == file


LAYERS = ("file", "variable", "flag")


@given(
    ports=st.dictionaries(st.sampled_from(LAYERS), st.integers(0, 65535)),
)
def test_for_any_set_of_layers_the_last_one_that_names_a_setting_wins(
    tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]
) -> None:
    file = None
    if "file" in ports:
        directory = tmp_path_factory.mktemp("layers")
        file = write_file(directory, f"[verifier]\nport = {ports['file']}\n")
    environment = {"OUTRIDER_VERIFIER_PORT": str(ports["variable"])} if "variable" in ports else {}
    loaded = load_settings(file, environment, {"verifier.port": ports.get("flag")})
    expected = [ports[layer] for layer in LAYERS if layer in ports] or [7411]
    assert loaded.settings.verifier.port == expected[-1]


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    loaded = load_settings(flags={"verifier.port": None})
    assert loaded.settings.verifier.port == 7411
    assert loaded.origin["verifier.port"] == DEFAULT_ORIGIN


def test_a_false_switch_is_a_given_flag() -> None:
    assert load_settings(flags={"edge.allow_spinning": False}).settings.edge.allow_spinning is False


def test_a_flag_may_have_the_type_of_its_setting_already() -> None:
    flags: dict[str, object] = {
        "verifier.port": 1,
        "edge.proposers": ("none",),
        "models.cache_dir": Path("/models"),
    }
    settings = load_settings(flags=flags).settings
    assert settings.verifier.port == 1
    assert settings.edge.proposers == ("none",)
    assert settings.models.cache_dir == Path("/models")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_settings(environment={"OUTRIDER_VERIFIER_PORT": ""}).settings == Settings()


def test_variables_of_other_programs_are_left_alone() -> None:
    environment = {"PATH": "/bin", "OUTRIDERS": "1", "MY_OUTRIDER_PORT": "x"}
    assert load_settings(environment=environment).settings == Settings()


def test_lists_are_separated_by_commas_in_variables_and_are_lists_in_a_file(tmp_path: Path) -> None:
    from_variable = load_settings(environment={"OUTRIDER_EDGE_PROPOSERS": "retrieval, lm"})
    from_file = load_settings(write_file(tmp_path, '[edge]\nproposers = ["retrieval", "lm"]'))
    assert from_variable.settings.edge.proposers == ("retrieval", "lm")
    assert from_file.settings.edge.proposers == ("retrieval", "lm")


def test_a_home_directory_is_spelled_out() -> None:
    loaded = load_settings(flags={"models.cache_dir": "~/models"})
    assert loaded.settings.models.cache_dir == Path.home() / "models"


@pytest.mark.parametrize("spelling", ["debug", "DEBUG", "Debug"])
def test_the_log_level_may_be_written_in_capitals(spelling: str) -> None:
    loaded = load_settings(environment={"OUTRIDER_LOG_LEVEL": spelling})
    assert loaded.settings.log.level == "debug"


# Where the file is found.


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = write_file(tmp_path, "[verifier]\nport = 1\n")
    assert load_settings(environment={"OUTRIDER_CONFIG": str(file)}).settings.verifier.port == 1


def test_a_file_that_is_named_wins_over_the_one_that_a_variable_names(tmp_path: Path) -> None:
    file = write_file(tmp_path, "[verifier]\nport = 1\n")
    loaded = load_settings(file, {"OUTRIDER_CONFIG": str(tmp_path / "absent.toml")})
    assert loaded.file == file


@pytest.mark.parametrize(
    ("variable", "below"), [("HOME", ".config/outrider"), ("XDG_CONFIG_HOME", "outrider")]
)
def test_the_usual_file_is_read_if_it_is_there(tmp_path: Path, variable: str, below: str) -> None:
    environment = {variable: str(tmp_path)}
    assert load_settings(environment=environment).file is None
    (tmp_path / below).mkdir(parents=True)
    file = write_file(tmp_path / below, "[verifier]\nport = 1\n")
    assert load_settings(environment=environment).file == file


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    sentence = complaint(tmp_path / "absent.toml")
    assert str(tmp_path / "absent.toml") in sentence
    assert "--config" in sentence


@pytest.mark.parametrize("content", [b"[verifier\n", b"\xff\xfe", b"port = = 1"])
def test_a_file_that_is_no_toml_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    assert f"{file} is not valid TOML" in complaint(file)


# Unknown names.


@pytest.mark.parametrize(
    ("text", "unknown", "meant"),
    [
        ("[verifier]\nprot = 1", "verifier.prot", "verifier.port"),
        ("[verifer]\nport = 1", "verifer", "verifier"),
        ("port = 1", "port", "verifier.port"),
        ("[edge]\nmax-depth = 1", "edge.max-depth", "edge.max_depth"),
    ],
)
def test_an_unknown_key_in_a_file_is_an_error_that_says_what_was_meant(
    tmp_path: Path, text: str, unknown: str, meant: str
) -> None:
    file = write_file(tmp_path, text)
    sentence = complaint(file)
    assert f"no setting {unknown} " in sentence
    assert str(file) in sentence
    assert f"did you mean {meant}?" in sentence


def test_an_unknown_variable_is_an_error_that_says_what_was_meant() -> None:
    sentence = complaint(environment={"OUTRIDER_VERIFIER_PRT": "1"})
    assert "OUTRIDER_VERIFIER_PRT" in sentence
    assert "did you mean OUTRIDER_VERIFIER_PORT?" in sentence


def test_an_unknown_variable_is_an_error_even_if_it_is_empty() -> None:
    assert "OUTRIDER_VERIFIER_PRT" in complaint(environment={"OUTRIDER_VERIFIER_PRT": ""})


def test_a_name_like_no_other_gets_no_guess() -> None:
    sentence = complaint(environment={"OUTRIDER_XYZZY": "1"})
    assert "OUTRIDER_XYZZY" in sentence
    assert "did you mean" not in sentence


def test_an_unknown_flag_is_an_error() -> None:
    assert "did you mean verifier.port?" in complaint(flags={"verifier.pört": 1})


def test_a_section_that_is_no_table_is_an_error(tmp_path: Path) -> None:
    assert "[verifier]" in complaint(write_file(tmp_path, "verifier = 1"))


# Values that are not allowed.


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("verifier.port", "65536", "an integer from 0 to 65535"),
        ("verifier.port", "http", "an integer from 0 to 65535"),
        ("verifier.host", "", "text that is not empty"),
        ("edge.allow_spinning", "perhaps", "true or false"),
        ("edge.verifier", "localhost", "an address of the form host:port"),
        ("edge.proposers", "lm,typo", "a list of lm, retrieval, recycling, garbage, none"),
        ("edge.proposers", "lm,lm", "each at most once"),
        ("edge.proposers", "none,lm", "'none' only by itself"),
        ("edge.proposers", ",", "a list of"),
        ("edge.connect_timeout_s", "0", "a number, above 0 and at most 3600"),
        ("sampling.temperature", "nan", "a number, at least 0"),
        ("sampling.temperature", "inf", "a number, at least 0"),
        ("sampling.top_p", "1.5", "a number, above 0 and at most 1"),
        ("sampling.seed", str(2**64), f"an integer, at least 0 and below {2**64}"),
        ("log.format", "xml", "one of text, json"),
        ("models.cache_dir", "~nobody-of-this-name/models", "a directory"),
    ],
)
def test_a_bad_value_is_one_sentence_with_name_value_origin_and_what_is_allowed(
    name: str, text: str, allowed: str
) -> None:
    sentence = complaint(flags={name: text})
    flag = Setting(*name.split(".")).flag
    assert sentence.startswith(f"{name} is {text!r} (from {flag}), but it must be ")
    assert allowed in sentence


@pytest.mark.parametrize(
    "assignment",
    [
        'verifier.port = "7411"',
        "verifier.port = 7411.0",
        "verifier.num_threads = true",
        "edge.allow_spinning = 1",
        "verifier.model = 2024-01-01",
        'edge.proposers = "lm"',
        "edge.proposers = []",
        "sampling.temperature = nan",
    ],
)
def test_a_value_of_another_type_in_a_file_is_an_error(tmp_path: Path, assignment: str) -> None:
    name, _, _ = assignment.partition(" ")
    file = write_file(tmp_path, assignment)
    assert f"(from {file}), but it must be" in complaint(file)
    assert complaint(file).startswith(f"{name} is ")


def test_a_whole_number_will_do_for_a_number(tmp_path: Path) -> None:
    loaded = load_settings(write_file(tmp_path, "sampling.temperature = 1"))
    assert loaded.settings.sampling.temperature == 1.0


def test_a_bad_value_is_found_even_where_a_later_layer_has_a_good_one() -> None:
    environment = {"OUTRIDER_VERIFIER_PORT": "x"}
    assert "OUTRIDER_VERIFIER_PORT" in complaint(None, environment, {"verifier.port": "1"})


def outcome(setting: Setting, text: str) -> Settings | str:
    """The settings with this value, or the sentence that refuses it."""
    try:
        return load_settings(flags={setting.name: text}).settings
    except ConfigError as error:
        return str(error)


@given(text=st.text(), setting=st.sampled_from(EVERY_SETTING))
def test_for_any_text_a_setting_takes_an_allowed_value_or_says_what_is_allowed(
    text: str, setting: Setting
) -> None:
    result = outcome(setting, text)
    if isinstance(result, str):
        assert result.startswith(f"{setting.name} is {text!r} (from {setting.flag}), but ")
        assert result.endswith(f"it must be {setting.allowed}.")
    else:
        assert Settings.model_validate(result.model_dump()) == result


# The catalogue of settings.


@pytest.mark.parametrize("setting", EVERY_SETTING, ids=lambda setting: setting.name)
def test_every_setting_says_what_it_does_and_its_default_is_allowed(setting: Setting) -> None:
    assert setting.description.endswith(".")
    assert setting.allowed
    if setting.default is not None:
        assert setting.from_value(setting.default) == setting.default
        assert setting.from_text(as_text(setting.default)) == setting.default


def test_no_two_settings_share_a_variable() -> None:
    assert len({setting.variable for setting in EVERY_SETTING}) == len(EVERY_SETTING)


def test_every_section_of_the_settings_is_known_by_its_name() -> None:
    assert set(SECTIONS) == set(Settings.model_fields)
