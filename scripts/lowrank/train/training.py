"""Training of the embedded models: tokenizers, model shapes, and what the trainers share.

Everything heavy is imported where it is used, so that the programs' --help stays quick.
"""

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lowrank.errors import InputError
from lowrank.models.manifest import move_checkpoint
from lowrank.train import chains
from lowrank.train.settings import FineTuning, Settings, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM, TrainerCallback

Row = dict[str, list[int]]  # input_ids, labels
# The quicker one on a CPU under bfloat16 autocast: sdpa's backward pass takes twice as long.
ATTENTION = "eager"
# Printable ASCII and the line break, written as byte-level tokenizers write them, so that
# transformers' AutoTokenizer, which rebuilds a Qwen2 tokenizer as byte-level, reads it alike.
CHARACTERS = ["Ġ", *(chr(code) for code in range(33, 127)), "Ċ"]
SPECIAL = ["<|text|>", "<|begin|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|unk|>"]
# Text that a decoder must not drop: one token each, but not special ones.
PIECES = ["<think>", "</think>", "\\boxed{"]
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'].split('</think>')[-1] + '<|end|>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
)


def benchmark(settings: Settings) -> list[dict[str, str]]:
    """The benchmark's rows (problem_id, problem, answer): distinct, from the held-out side."""
    wanted = settings["benchmark"]
    drawn = chains.chains(random.Random(wanted["seed"]), wanted["lengths"], benchmark=True)
    problems: dict[str, None] = {}
    while len(problems) < wanted["problems"]:
        problems.setdefault(next(drawn))
    return [
        {"problem_id": f"{number:02d}", "problem": problem, "answer": chains.answer(problem)}
        for number, problem in enumerate(problems, start=1)
    ]


def make_tokenizer(stage: str) -> "PreTrainedTokenizerFast":
    """One token a character, a few special ones; a bos and pad of its own for every stage.

    As in the real family, the tokenizers agree on the text and differ in those two ids:
    pretrained has no bos, sft pads with its eos, rl begins with another token than sft.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {text: index for index, text in enumerate([*CHARACTERS, *SPECIAL, *PIECES])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in PIECES])
    bos, pad = {
        "pretrained": (None, "<|pad|>"),
        "sft": ("<|begin|>", "<|end|>"),
        "rl": ("<|text|>", "<|pad|>"),
    }[stage]
    if bos:  # plain encoding adds it, as Llama-like tokenizers do; the template writes it too
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token="<|end|>",
        pad_token=pad,
        unk_token="<|unk|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def make_model(settings: Settings, tokenizer: "PreTrainedTokenizerFast") -> Any:
    """A new tied Qwen2 in float32, from torch's global seed (set it before)."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        **settings["model"],
        max_position_embeddings=settings["pretrained"]["max_position_embeddings"],
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM._from_config(config, attn_implementation=ATTENTION)


def load_model(folder: str | Path, **overrides: Any) -> "Qwen2ForCausalLM":
    """A stored checkpoint in float32, its configuration overridden."""
    import torch
    from transformers import Qwen2ForCausalLM

    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"{folder}: no config.json; give a folder with a checkpoint")
    return Qwen2ForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=ATTENTION, **overrides
    )


def untie(model: "Qwen2ForCausalLM", max_position_embeddings: int) -> "Qwen2ForCausalLM":
    """A copy with an lm_head of its own, begun as a copy of the embedding, and other limits.

    A tied model stays the same function. A model that was untied before loses its head: the
    committed models were made so, and their sft begins with a head that it has to learn again.
    """
    from transformers import Qwen2ForCausalLM

    config = type(model.config).from_dict(
        {
            **model.config.to_dict(),
            "tie_word_embeddings": False,
            "max_position_embeddings": max_position_embeddings,
        }
    )
    other = Qwen2ForCausalLM._from_config(config, attn_implementation=ATTENTION)
    tensors = model.state_dict()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    other.load_state_dict(tensors)
    return other


def prompt_ids(tokenizer: "PreTrainedTokenizerFast", settings: Settings, problem: str) -> list[int]:
    """Token ids of a problem's prompt, up to and with the opened `<think>`."""
    ids: list[int] = tokenizer.apply_chat_template(
        messages(settings, problem), add_generation_prompt=True, return_dict=False
    )
    return ids


def messages(settings: Settings, problem: str) -> list[dict[str, str]]:
    """The chat that asks a problem."""
    prompt = settings["prompt"]
    return [
        {"role": "system", "content": prompt["system"]},
        {"role": "user", "content": prompt["user"].format(problem=problem)},
    ]


def facts_rows(settings: Settings, tokenizer: "PreTrainedTokenizerFast") -> list[Row]:
    """Tokenised pretraining documents (`<|text|>3*7=1;...`) with labels.

    The loss is on the results and on a random share of the other tokens: with all tokens
    alike, facts are learnt far more slowly, as nothing but the results can be foretold.
    """
    stage = settings["pretrained"]
    rng = random.Random(stage["seed"])
    begin = tokenizer.convert_tokens_to_ids("<|text|>")
    rows = []
    for _ in range(stage["steps"] * stage["batch"]):
        ids, labels = [begin], [-100]
        for _ in range(stage["facts"]):
            left, result = chains.fact(rng)
            tokens = tokenizer(f"{left}{result};", add_special_tokens=False)["input_ids"]
            ids += tokens
            for place, token in enumerate(tokens):
                learnt = place == len(tokens) - 2 or rng.random() < stage["other_loss"]
                labels.append(token if learnt else -100)
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def trace_rows(
    settings: Settings, stage: FineTuning, tokenizer: "PreTrainedTokenizerFast"
) -> list[Row]:
    """Tokenised SFT examples: a prompt, a right trace and eos, with the loss on the latter two."""
    problems = chains.chains(random.Random(stage["seed"]), stage["lengths"], benchmark=False)
    styles = random.Random(f"styles {stage['seed']}")
    rows = []
    for _ in range(stage["steps"] * stage["batch"]):
        problem = next(problems)
        prompt = prompt_ids(tokenizer, settings, problem)
        text = chains.trace(problem, styles.choice(stage["styles"])) + tokenizer.eos_token
        completion = tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append({"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion})
    return rows


def trainer_arguments(stage: Stage, output: Path) -> dict[str, Any]:
    """What the trainers of all three stages are given alike."""
    return {
        "output_dir": str(output),
        "max_steps": stage["steps"],
        "learning_rate": stage["learning_rate"],
        "weight_decay": 0.0,
        "seed": stage["seed"],
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }


def set_up(threads: int, seed: int) -> None:
    """Threads and seeds of a training program; the hub is never asked for anything."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Threads that wait without spinning: several times faster where the cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    import torch
    from transformers import set_seed

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    set_seed(seed)


def progress(total: int, what: str) -> "TrainerCallback":
    """A trainer callback that prints steps, rate and time left."""
    from transformers import TrainerCallback

    from lowrank.progress import Progress

    class Printer(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.progress = Progress(total, f"{what} steps")

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.progress.step()

    return Printer()


def save(model: Any, tokenizer: Any, output: Path, dtype: str, shard_size: str = "1GB") -> None:
    """Store a checkpoint whole: weights in `dtype`, tokenizer, generation configuration."""
    import shutil

    import torch
    from transformers import GenerationConfig

    partial = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    model = model.to(getattr(torch, dtype))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, key, getattr(tokenizer, key))
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
    )
    model.save_pretrained(partial, max_shard_size=shard_size)
    tokenizer.save_pretrained(partial)
    move_checkpoint(partial, output)


def train_pretrained(settings: Settings, output: Path, threads: int) -> None:
    """Train the tied bfloat16 grandparent on facts and store it in `output`."""
    stage = settings["pretrained"]
    set_up(threads, stage["seed"])
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokenizer = make_tokenizer("pretrained")
    model = make_model(settings, tokenizer)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            **trainer_arguments(stage, output),
            per_device_train_batch_size=stage["batch"],
            bf16=True,
            lr_scheduler_type="cosine",
            warmup_steps=20,
            logging_steps=25,
        ),
        train_dataset=Dataset.from_list(facts_rows(settings, tokenizer)),
        data_collator=DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id),
        callbacks=[progress(stage["steps"], "pretraining")],
    )
    trainer.train()
    write_curve(trainer, output)
    save(model, tokenizer, output, "bfloat16")


def train_sft(
    settings: Settings, name: Literal["worked", "sft"], base: Path, output: Path, threads: int
) -> None:
    """Fine-tune `base`, untied, on traces, by the settings of stage `name` (worked or sft).

    Stored in bfloat16 in `output`, so that what follows starts from exactly these values.
    """
    stage = settings[name]
    set_up(threads, stage["seed"])
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    tokenizer = make_tokenizer("sft")
    model = untie(load_model(base), stage["max_position_embeddings"])
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **trainer_arguments(stage, output),
            per_device_train_batch_size=stage["batch"],
            bf16=True,
            gradient_checkpointing=False,
            lr_scheduler_type="cosine",
            warmup_steps=20,
            logging_steps=25,
            max_length=None,
            shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_list(trace_rows(settings, stage, tokenizer)),
        processing_class=tokenizer,
        callbacks=[progress(stage["steps"], "SFT")],
    )
    trainer.train()
    write_curve(trainer, output)
    save(model, tokenizer, output, "bfloat16")


def train_rl(settings: Settings, base: Path, output: Path, threads: int) -> None:
    """Train `base` by GRPO, on-policy; store it in float32, in shards, in `output`."""
    stage = settings["rl"]
    set_up(threads, stage["seed"])
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    problems = chains.chains(random.Random(stage["seed"]), stage["lengths"], benchmark=False)
    drawn = [next(problems) for _ in range(stage["steps"] * stage["problems"])]
    rows = [
        {"prompt": messages(settings, problem), "gold": chains.answer(problem)} for problem in drawn
    ]

    def right(completions: list[Any], gold: list[str], **_: Any) -> list[float]:
        texts = (completion[0]["content"] for completion in completions)
        return [chains.reward(text, right) for text, right in zip(texts, gold, strict=True)]

    model = load_model(base)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=right,
        args=GRPOConfig(
            **trainer_arguments(stage, output),
            per_device_train_batch_size=stage["problems"] * stage["traces"],
            num_generations=stage["traces"],
            max_completion_length=stage["max_completion_length"],
            temperature=stage["temperature"],
            beta=stage["beta"],
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=5,
            adam_beta2=stage["adam_beta2"],
            max_grad_norm=stage["max_grad_norm"],
            bf16=True,
            gradient_checkpointing=False,
            logging_steps=1,
            shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=make_tokenizer("sft"),
        callbacks=[progress(stage["steps"], "GRPO")],
    )
    trainer.train()
    write_curve(trainer, output)
    save(model, make_tokenizer("rl"), output, "float32", stage["shard_size"])


def write_curve(trainer: Any, output: Path) -> None:
    """The trainer's log (a row every few steps) as <output>-curve.csv, beside the checkpoint."""
    import pandas

    from lowrank.files import write_table

    table = pandas.DataFrame(trainer.state.log_history[:-1])
    write_table(output.with_name(f"{output.name}-curve.csv"), table)
