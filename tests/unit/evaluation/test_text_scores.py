"""Text metrics against worked values, against sacrebleu and rouge-score, and for laws that always hold."""

import math

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from services.evaluation.scoring import bleu, rouge, texts
from services.evaluation.scoring.stopwords import NO_STOPWORDS, StopWords, parse_stopwords, preset_stopwords, union
from services.evaluation.scoring.tokens import tokenize

pytestmark = pytest.mark.unit

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "dog"]), max_size=12)
SENTENCES = WORDS.map(" ".join)
PAIRS = [
    ("The cat sat on the mat.", "The cat is sitting on the mat!"),
    ("Call 555-0100 between 9 and 17 o'clock.", "You can call 555-0100 from 9 to 17, Monday to Friday."),
    ("nothing alike", "quite other words here"),
    ("short", "a much longer reference with short inside of it"),
    ("the the the the the the the", "the cat is on the mat"),
    ("", "an answer was wanted"),
    ("one two three four five six", "one two three four five six"),
]


def test_tokens_are_lower_case_words_and_numbers() -> None:
    assert tokenize("Don't open ROUTE_66 at 3.5%!") == ("don", "t", "open", "route", "66", "at", "3", "5")


def test_chinese_is_segmented_beside_other_scripts() -> None:
    assert tokenize("我们的客服电话是 Acme-100。") == ("我们", "的", "客服", "电话", "是", "acme", "100")


def test_full_width_and_combined_forms_are_one_token() -> None:
    assert tokenize("ＡＢＣ１２") == tokenize("abc12")
    assert tokenize("cafe\u0301 naïve") == ("café", "naïve")
    assert tokenize("हिन्दी में") == ("हिन्दी", "में")


def test_scripts_without_spaces_are_cut_into_characters() -> None:
    assert tokenize("カタカナ東京") == ("カ", "タ", "カ", "ナ", "東京")


@given(st.text(max_size=60))
def test_tokenizing_the_tokens_again_changes_nothing_for_scripts_with_spaces(text: str) -> None:
    tokens = [token for token in tokenize(text) if token.isascii()]
    assert tokenize(" ".join(tokens)) == tuple(tokens)


def test_rouge_of_a_worked_pair() -> None:
    ours, theirs = ["police", "killed", "the", "gunman"], ["police", "kill", "the", "gunman", "now"]
    assert rouge.rouge_n(ours, theirs, 1) == rouge.Overlap.of(3, 4, 5)
    assert rouge.rouge_n(ours, theirs, 2) == rouge.Overlap.of(1, 3, 4)
    overlap = rouge.rouge_l(ours, theirs)
    assert (overlap.precision, overlap.recall) == (3 / 4, 3 / 5)
    assert overlap.f == pytest.approx(2 * 0.75 * 0.6 / 1.35)


def test_repeated_words_count_as_often_as_the_reference_has_them() -> None:
    assert rouge.rouge_n(["the"] * 7, ["the", "cat", "is", "on", "the", "mat"], 1) == rouge.Overlap.of(2, 7, 6)


def _slow_lcs(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        previous = 0
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], previous + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


@given(WORDS, WORDS)
def test_bit_parallel_lcs_equals_the_table(a: list[str], b: list[str]) -> None:
    assert rouge.lcs_length(a, b) == rouge.lcs_length(b, a) == _slow_lcs(a, b)


@pytest.mark.parametrize(("hypothesis", "reference"), PAIRS)
def test_rouge_agrees_with_rouge_score_on_english(hypothesis: str, reference: str) -> None:
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    expected = scorer.score(reference, hypothesis)
    values = texts.score_text(hypothesis, [reference], NO_STOPWORDS).values
    for theirs, ours in (("rouge1", "rouge_1"), ("rouge2", "rouge_2"), ("rougeL", "rouge_l")):
        assert values[f"{ours}_precision"] == pytest.approx(expected[theirs].precision)
        assert values[f"{ours}_recall"] == pytest.approx(expected[theirs].recall)
        assert values[f"{ours}_f"] == pytest.approx(expected[theirs].fmeasure)


@given(SENTENCES, SENTENCES.filter(bool), SENTENCES.filter(bool))
def test_sentence_bleu_agrees_with_sacrebleu(hypothesis: str, first: str, second: str) -> None:
    counts = bleu.bleu_counts(hypothesis.split(), [first.split(), second.split()])
    expected = sacrebleu.sentence_bleu(hypothesis, [first, second], tokenize="none", use_effective_order=True)
    assert 100 * bleu.sentence_bleu(counts) == pytest.approx(expected.score)


def test_corpus_bleu_agrees_with_sacrebleu() -> None:
    tokens = [(tokenize(hypothesis), tokenize(reference)) for hypothesis, reference in PAIRS]
    counts = [bleu.bleu_counts(ours, [theirs]) for ours, theirs in tokens]
    expected = sacrebleu.corpus_bleu(
        [" ".join(ours) for ours, _ in tokens],
        [[" ".join(theirs) for _, theirs in tokens]],
        tokenize="none",
        smooth_method="none",
    )
    sums = [sum(column) for column in zip(*(each.row() for each in counts), strict=True)]
    assert 100 * bleu.bleu_of_row(sums) == pytest.approx(expected.score)


def test_corpus_bleu_of_a_worked_pair() -> None:
    counts = bleu.bleu_counts(["a", "b", "c", "d", "e"], [["a", "b", "c", "d", "f", "g"]])
    assert counts.matched == (4, 3, 2, 1)
    assert counts.total == (5, 4, 3, 2)
    expected = math.exp(1 - 6 / 5) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu.bleu_of_row(counts.row()) == pytest.approx(expected)


def test_sentence_bleu_smooths_where_corpus_bleu_is_zero() -> None:
    counts = bleu.bleu_counts(["a", "x", "c"], [["a", "b", "c"]])
    assert bleu.bleu_of_row(counts.row()) == 0
    assert bleu.sentence_bleu(counts) == pytest.approx((2 / 3 * 1 / 4 * 1 / 4) ** (1 / 3))


def test_the_best_of_several_references_counts() -> None:
    values = texts.score_text("a b c", ["x y z", "a b c", "a b"], NO_STOPWORDS).values
    assert values["rouge_1_f"] == values["rouge_l_recall"] == values["bleu"] == 1


def test_stop_words_leave_both_sides() -> None:
    stop = parse_stopwords("own", "# comment\nthe\nis\n\n")
    values = texts.score_text("the answer is blue", ["blue is the answer"], stop).values
    assert values["rouge_1_f"] == 1
    assert values["rouge_l_f"] == 0.5


def test_a_reference_of_stop_words_only_gives_no_score_and_is_counted() -> None:
    scores = [texts.score_text("x", ["the"], preset_stopwords("en")), texts.score_text("x", ["x"], NO_STOPWORDS)]
    assert not scores[0].scored
    summary = texts.summarize(scores)
    assert (summary.scored, summary.unscored) == (1, 1)
    assert summary.aggregates["rouge_1_f"].value == 1


def test_no_scored_sample_gives_no_aggregate() -> None:
    assert texts.summarize([texts.NO_SCORE]).aggregates == {}
    assert texts.compare([texts.NO_SCORE], [texts.NO_SCORE]) == {}


def test_an_empty_answer_scores_zero() -> None:
    values = texts.score_text("", ["something"], NO_STOPWORDS).values
    assert set(values) == set(texts.SENTENCE_METRICS)
    assert not any(values.values())


@given(SENTENCES, st.lists(SENTENCES, max_size=3))
def test_every_value_lies_between_zero_and_one(hypothesis: str, references: list[str]) -> None:
    score = texts.score_text(hypothesis, references, preset_stopwords("en"))
    assert all(0 <= value <= 1 + 1e-12 for value in score.values.values())


@given(SENTENCES.filter(bool))
def test_an_answer_equal_to_its_reference_scores_one_where_it_is_long_enough(text: str) -> None:
    score = texts.score_text(text, [text], NO_STOPWORDS)
    assert score.values["rouge_1_f"] == score.values["rouge_l_f"] == pytest.approx(1)
    assert score.values["bleu"] == pytest.approx(1)


def test_the_metric_name_carries_tokenizer_and_list() -> None:
    assert texts.metric_name("bleu", NO_STOPWORDS).endswith("stop=none]")
    ours = texts.metric_name("rouge_l_recall", preset_stopwords("en"))
    assert ours.startswith("rouge_l_recall[tok=modelry-1+jieba-0.42.1,stop=en-")
    assert ours != texts.metric_name("rouge_l_recall", preset_stopwords("zh"))


def test_lists_join_without_regard_to_their_order() -> None:
    en, zh = preset_stopwords("en"), preset_stopwords("zh")
    assert union([zh, en]) == union([en, zh])
    assert union([zh, en]).name == "en+zh"
    assert union([]) == NO_STOPWORDS
    assert StopWords("a", en.words).digest == en.digest


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="no word"):
        parse_stopwords("own", "# nothing\n")


def test_preset_lists_keep_negations() -> None:
    assert not {"no", "not"} & preset_stopwords("en").words
    assert not {"不", "没有"} & preset_stopwords("zh").words
