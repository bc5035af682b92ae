"""LoRA fine-tuning by PyTorch, Transformers and PEFT, for `pnpm bench engine`: the shape of SmolLM2-135M, random weights.

Started by training.ts when TUNELOOP_BENCH_PYTHON names a Python with torch, transformers and peft. The argument is the
number of threads. Reads one JSON object a line ({"batch", "length", "warmup", "steps"}), answers each with the seconds of
every step after the warm-up and the peak resident size of this process so far.
"""

import json
import resource
import sys
import time

import peft
import torch
import transformers

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(1)
transformers.logging.set_verbosity_error()
model = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
)
projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=projections))
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
print(json.dumps(versions), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    seconds = []
    for step in range(task["warmup"] + task["steps"]):
        ids = (torch.arange(task["batch"] * task["length"]) * 17 + 31 * step).remainder(49152)
        ids = ids.reshape(task["batch"], task["length"])
        started = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        if step >= task["warmup"]:
            seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peakRssBytes": peak}), flush=True)
