"""A tiny Llama with its own tokenizer and chat template, made in seconds: a real model for tests.

It has all that a real one has (bf16 safetensors, fast tokenizer, ChatML-like template), is loaded by transformers, peft
and vLLM alike, and has some 300,000 parameters. It knows nothing until a test trains it.
"""

from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY_SIZE = 640
CONTEXT_LENGTH = 1024
_CORPUS = (
    "You are a helpful assistant. Answer briefly. system user assistant",
    "What is the opening time of the help desk? The help desk opens at nine in the morning and closes at five.",
    "How do I reset my password? Open the settings, choose security, and follow the link that we send you.",
    "Which answer is right? Answer with one letter: A, B, C or D. The answer is",
    "12 + 30 = 42. def f(x): return x ** 2",
    "The quick brown fox jumps over the lazy dog. Please call support when you do not know.",
)


def build_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write a whole model into ``folder`` and return it. The same seed gives the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tiny_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,  # a round number, as vLLM pads to one; the tokenizer may use fewer ids
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    generator_state = torch.get_rng_state()  # building a model leaves the caller's random numbers alone
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    torch.set_rng_state(generator_state)
    model.save_pretrained(folder)
    return folder


def build_tiny_tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    """Train a byte-level BPE tokenizer on a few sentences, save it in ``folder`` and return it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 32,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=[],
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


if __name__ == "__main__":
    import sys

    print(build_tiny_model(Path(sys.argv[1])))
