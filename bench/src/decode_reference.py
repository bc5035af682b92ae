"""Greedy generation by Transformers on PyTorch, for `pnpm bench engine`: the shape of SmolLM2-135M with random weights.

Started by decoding.ts when TUNELOOP_BENCH_PYTHON names a Python with torch and transformers. The argument is the number of
threads. Reads one JSON object a line ({"batch", "prompt", "tokens"}), answers each with the seconds that `generate` took, by
the clock and of processor time.
"""

import json
import sys
import time

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
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
).eval()
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    ids = torch.arange(1, 1 + task["prompt"]).repeat(task["batch"], 1)
    with torch.inference_mode():
        started, processor = time.perf_counter(), time.process_time()
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            use_cache=True,
            max_new_tokens=task["tokens"],
            min_new_tokens=task["tokens"],
        )
        answer = {"seconds": time.perf_counter() - started, "cpuSeconds": time.process_time() - processor}
    assert out.shape[1] == task["prompt"] + task["tokens"]
    print(json.dumps(answer), flush=True)
