"""The tokenizer's files, loaded the way a user loads them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from eulerc.backends.hf.tokenizer import TokenizerContract, TokenizerError, TokenizerFiles, prepare

TEXTS = (
    "",
    "a",
    "Hello, world!\n\n  def f(x):\n\treturn x ** 2\r\n",
    " leading and trailing  ",
    "naïve façade, Übergröße, Ελληνικά, Русский, 中文字符, 日本語, עברית",
    "👩‍👩‍👧 e\u0301 \u00e9 \ufeff\u200b \U0010ffff \x00\x7f",
    "12345678901234567890 3.14159e-05",
)


def prepared(
    pretrained: str,
    *,
    vocab_size: int = 2048,
    base: Path | None = None,
    max_seq_len: int | None = None,
    add_bos: bool = True,
    add_eos: bool = True,
    pad_token: str | None = None,
) -> TokenizerFiles:
    return prepare(TokenizerContract(pretrained, add_bos, add_eos, pad_token), vocab_size, base, max_seq_len)


def write(files: TokenizerFiles, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.files.items():
        (folder / name).write_bytes(content)
    return folder


def load(files: TokenizerFiles, folder: Path) -> PreTrainedTokenizerBase:
    """As from a built model: beside a config of a model type that transformers does not know."""
    write(files, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "kestrel"}))
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def refusal(pretrained: str, **options: object) -> TokenizerError:
    with pytest.raises(TokenizerError) as caught:
        prepared(pretrained, **options)
    return caught.value


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder as a released model has it: word-level, with a template, a chat template and no padding token."""
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2, "hello": 3, "world": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]),
        ]
    )
    folder = tmp_path / "foreign"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (folder / "special_tokens_map.json").write_text('{"unk_token": "<unk>", "eos_token": "overridden"}')
    config = {
        "bos_token": {"content": "<s>", "lstrip": False},
        "eos_token": "</s>",
        "tokenizer_class": "LlamaTokenizer",
        "auto_map": {"AutoTokenizer": ["code.Slow", "code.Fast"]},
        "model_max_length": 10**30,
        "truncation_side": "left",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("pretrained", ["bytes", "byte-bpe"])
def test_every_text_survives_encoding_and_decoding(pretrained: str, tmp_path: Path) -> None:
    tokenizer = load(prepared(pretrained), tmp_path)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_ids_of_the_bytes_tokenizer_are_the_bytes(tmp_path: Path) -> None:
    tokenizer = load(prepared("bytes", add_bos=False, add_eos=False), tmp_path)
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == list(text.encode())


def test_larger_vocabulary_keeps_the_tokens_of_a_smaller_one() -> None:
    small, large = (
        json.loads(prepared("byte-bpe", vocab_size=size).files["tokenizer.json"])["model"]["vocab"]
        for size in (300, 1000)
    )
    assert len(small) == 300 and len(large) == 1000
    assert small.items() <= large.items()


def test_training_shortens_text(tmp_path: Path) -> None:
    text = "The attention of the model looks at all the positions before it."
    tokenizer = load(prepared("byte-bpe", add_bos=False, add_eos=False), tmp_path)
    assert len(tokenizer(text)["input_ids"]) < len(text) / 2


@pytest.mark.parametrize("add_bos", [True, False])
@pytest.mark.parametrize("add_eos", [True, False])
@pytest.mark.parametrize("pretrained", ["bytes", "byte-bpe", "./foreign"])
def test_add_bos_and_add_eos_decide_what_goes_around_a_text(
    pretrained: str, add_bos: bool, add_eos: bool, foreign: Path, tmp_path: Path
) -> None:
    tokenizer = load(prepared(pretrained, base=foreign, add_bos=add_bos, add_eos=add_eos), tmp_path / "out")
    bos, eos = [tokenizer.bos_token_id] * add_bos, [tokenizer.eos_token_id] * add_eos
    plain = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("hello", "world")}
    assert tokenizer("hello")["input_ids"] == bos + plain["hello"] + eos
    pair = tokenizer("hello", "world")["input_ids"]
    assert pair == bos + plain["hello"] + eos + bos + plain["world"] + eos


@pytest.mark.parametrize("pretrained", ["bytes", "byte-bpe", "./foreign"])
@pytest.mark.parametrize("pad_token", ["<|fill|>", "<|eos|>", "</s>"])
def test_padding_uses_the_token_of_the_contract(pretrained: str, pad_token: str, foreign: Path, tmp_path: Path) -> None:
    files = prepared(pretrained, base=foreign, pad_token=pad_token)
    tokenizer = load(files, tmp_path / "out")
    assert tokenizer.pad_token == pad_token
    assert tokenizer.pad_token_id == files.pad_token_id < files.vocab_size
    short, _ = tokenizer(["hello", "hello hello hello"], padding=True)["input_ids"]
    assert files.pad_token_id in (short[0], short[-1])


@pytest.mark.parametrize("pretrained", ["bytes", "byte-bpe", "./foreign"])
def test_reported_facts_are_those_of_the_loaded_tokenizer(pretrained: str, foreign: Path, tmp_path: Path) -> None:
    files = prepared(pretrained, base=foreign, max_seq_len=77)
    tokenizer = load(files, tmp_path / "out")
    assert files.vocab_size == 1 + max(tokenizer.get_vocab().values()) == len(tokenizer)
    for role in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(files, role) == getattr(tokenizer, role)
    assert tokenizer.model_max_length == 77


def test_settings_of_a_released_tokenizer_come_along_and_its_code_does_not(foreign: Path, tmp_path: Path) -> None:
    files = prepared("./foreign", base=foreign)
    tokenizer = load(files, tmp_path / "out")
    assert tokenizer.truncation_side == "left"
    assert tokenizer.eos_token == "</s>"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
    assert "auto_map" not in json.loads(files.files["tokenizer_config.json"])


def test_special_token_missing_from_the_vocabulary_gets_a_counted_id(foreign: Path, tmp_path: Path) -> None:
    path = foreign / "foreign" / "tokenizer_config.json"
    path.write_text('{"bos_token": "<s>", "eos_token": "<|stop|>", "extra_special_tokens": ["<|more|>"]}')
    files = prepared("foreign", base=foreign)
    assert (files.eos_token_id, files.vocab_size) == (5, 7)
    assert len(load(files, tmp_path / "out")) == 7
    assert refusal("foreign", base=foreign, vocab_size=6).code == "E0611"


def test_own_output_is_a_source_again_and_comes_out_the_same(tmp_path: Path) -> None:
    first = prepared("byte-bpe", max_seq_len=64)
    write(first, tmp_path / "out")
    again = prepared("out", base=tmp_path, max_seq_len=64)
    assert dict(again.files) == dict(first.files)


def test_training_on_a_text_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"zebra zebra\r\nzebra quagga quagga\r\n" * 3)
    vocabulary = json.loads(prepared("byte-bpe:text.txt", base=tmp_path).files["tokenizer.json"])["model"]["vocab"]
    assert "zebra" in vocabulary and "Ġquagga" in vocabulary


def test_digest_follows_the_source_and_not_the_contract(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one one two two")
    before = prepared("byte-bpe:text.txt", base=tmp_path).digest
    assert prepared("byte-bpe:text.txt", base=tmp_path, add_eos=False).digest == before
    text.write_text("one one two three")
    assert prepared("byte-bpe:text.txt", base=tmp_path).digest != before
    assert len({prepared(name).digest for name in ("bytes", "byte-bpe")}) == 2


TRAIN_AND_HASH = """
import hashlib
from eulerc.backends.hf.tokenizer import TokenizerContract, prepare
files = prepare(TokenizerContract("byte-bpe"), 4096, None, 128).files
print({name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())})
"""


def test_files_do_not_depend_on_hash_seed_threads_or_locale() -> None:
    variants = (
        {"PYTHONHASHSEED": "0", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "true", "LC_ALL": "C.UTF-8"},
        {"PYTHONHASHSEED": "2", "RAYON_NUM_THREADS": "7", "TOKENIZERS_PARALLELISM": "true", "PYTHONUTF8": "0"},
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", TRAIN_AND_HASH],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variant},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for variant in variants
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("home", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("name", ["kestrel", "birds/kestrel-1.5"])
def test_hub_name_is_found_in_the_local_cache(
    home: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(home, str(tmp_path))
    hub = tmp_path / {"HF_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}[home]
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0123456789" * 4)
    snapshot.mkdir(parents=True)
    write(prepared("bytes"), snapshot)
    assert refusal(name).code == "E0610"
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    assert prepared(name).vocab_size == 259


@pytest.mark.parametrize(
    "name",
    ["no/such-tokenizer", "../../etc", "", "a/b/c", "x" * 5000, "nul\0byte", "/nowhere", "~/tokenizer", "bytes2"],
)
def test_what_cannot_be_had_names_the_three_ways_out(name: str, tmp_path: Path) -> None:
    error = refusal(name, base=tmp_path)
    assert error.code == "E0610"
    assert error.key == "pretrained"
    for way in ("tokenizer.json", "byte-bpe", "--no-tokenizer"):
        assert way in error.help


def test_folder_without_tokenizer_json_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert refusal("./mine", base=tmp_path).message == "the folder `./mine` holds no tokenizer.json"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"{}",
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}',
        b'{"version": "\\ud800"}',
        b'{"version": NaN}',
        b"[" * 100_000,
    ],
)
def test_broken_tokenizer_json_is_a_diagnostic(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert refusal(".", base=tmp_path).code == "E0610"


@pytest.mark.parametrize(
    ("written", "content"),
    [
        ("missing.txt", None),
        ("", None),
        (".", None),
        ("../outside.txt", None),
        ("/etc/hostname", None),
        ("nul\0byte", None),
        ("x" * 5000, None),
        ("latin.txt", b"caf\xe9"),
        ("empty.txt", b""),
    ],
)
def test_unusable_training_text_is_a_diagnostic(written: str, content: bytes | None, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("outside outside")
    base = tmp_path / "spec"
    base.mkdir()
    if content is not None:
        (base / written).write_bytes(content)
    assert refusal(f"byte-bpe:{written}", base=base).code == "E0610"
    assert refusal(f"byte-bpe:{written}").code == "E0610"


def test_link_does_not_lead_the_training_text_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret secret")
    base = tmp_path / "spec"
    base.mkdir()
    (base / "text.txt").symlink_to("../secret.txt")
    assert "outside" in refusal("byte-bpe:text.txt", base=base).message


@pytest.mark.parametrize(
    ("pretrained", "pad_token", "needed"),
    [("bytes", None, 259), ("byte-bpe", None, 259), ("byte-bpe", "<|eos|>", 258), ("foreign", "[PAD]", 6)],
)
def test_vocabulary_smaller_than_the_tokenizer_is_refused(
    pretrained: str, pad_token: str | None, needed: int, foreign: Path
) -> None:
    error = refusal(pretrained, base=foreign, vocab_size=needed - 1, pad_token=pad_token)
    assert error.code == "E0611"
    assert f"{needed} tokens" in error.message
    assert prepared(pretrained, base=foreign, vocab_size=needed, pad_token=pad_token).vocab_size == needed


@pytest.mark.parametrize(
    ("pretrained", "pad_token"),
    [("bytes", "a"), ("byte-bpe", "the"), ("bytes", ""), ("bytes", " "), ("foreign", "hello")],
)
def test_ordinary_text_cannot_be_the_padding_token(pretrained: str, pad_token: str, foreign: Path) -> None:
    error = refusal(pretrained, base=foreign, pad_token=pad_token)
    assert (error.code, error.key) == ("E0612", "pad_token")


def test_special_token_that_the_tokenizer_lacks_cannot_be_added(foreign: Path) -> None:
    (foreign / "foreign" / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": null}')
    error = refusal("foreign", base=foreign)
    assert (error.code, error.key, error.help) == ("E0612", "add_eos", "write `add_eos: false`")
    assert prepared("foreign", base=foreign, add_eos=False).eos_token_id is None


def test_preparing_a_tokenizer_imports_neither_torch_nor_transformers() -> None:
    code = TRAIN_AND_HASH + "import sys; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def with_transition(token: str, pretrained: str = "bytes", vocab_size: int = 300, **options: object) -> TokenizerFiles:
    contract = TokenizerContract(pretrained, add_bos=False, add_eos=False, transition_token=token)
    return prepare(contract, vocab_size, options.get("base"))  # type: ignore[arg-type]


@pytest.mark.parametrize("pretrained", ["bytes", "byte-bpe", "./foreign"])
def test_a_transition_token_is_one_special_token(pretrained: str, foreign: Path, tmp_path: Path) -> None:
    files = with_transition("<think_end>", pretrained, base=foreign)
    tokenizer = load(files, tmp_path / "out")
    assert files.transition_token_id == tokenizer.convert_tokens_to_ids("<think_end>") < files.vocab_size <= 300
    ids = tokenizer("hello<think_end>hello").input_ids
    assert ids.count(files.transition_token_id) == 1
    assert "<think_end>" not in tokenizer.decode(ids, skip_special_tokens=True)


def test_training_leaves_room_for_a_transition_token() -> None:
    files = with_transition("<think_end>", "byte-bpe", 400)
    assert (files.vocab_size, files.transition_token_id) == (400, 399)


def test_a_special_token_of_the_tokenizer_serves_as_transition_token(foreign: Path) -> None:
    files = with_transition("<unk>", "./foreign", base=foreign)
    assert (files.vocab_size, files.transition_token_id) == (5, 2)


def test_a_transition_token_needs_a_row_of_its_own() -> None:
    assert with_transition("<think_end>", vocab_size=260).transition_token_id == 259
    with pytest.raises(TokenizerError, match=r"E0611.*260 tokens"):
        with_transition("<think_end>", vocab_size=259)


@pytest.mark.parametrize(
    ("token", "pretrained", "message"),
    [
        ("done", "bytes", "transition.token `done` stands in ordinary text"),
        ("hello", "./foreign", "transition.token `hello` stands in ordinary text"),
        ("<|eos|>", "bytes", "transition.token `<|eos|>` is the eos_token too"),
        ("<|pad|>", "byte-bpe", "transition.token `<|pad|>` is the pad_token too"),
        (" ", "bytes", "transition.token is blank"),
    ],
)
def test_a_transition_token_that_cannot_serve_is_refused(
    token: str, pretrained: str, message: str, foreign: Path
) -> None:
    with pytest.raises(TokenizerError) as caught:
        with_transition(token, pretrained, base=foreign)
    assert (caught.value.code, caught.value.message) == ("E0612", message)


def test_phases_need_a_token_that_ends_the_last_one(foreign: Path) -> None:
    folder = foreign / "foreign"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink()
    with pytest.raises(TokenizerError, match=r"E0612.*eos_token"):
        with_transition("<think_end>", "./foreign", base=foreign)
