import type { Client } from '@tuneloop/client/client';
import { listDatasetExamples } from '@tuneloop/contracts/datasets/http';
import type { ExampleRow } from '@tuneloop/contracts/datasets/internal';
import { createChatCompletion } from '@tuneloop/contracts/responses/http';
import { parseDescription } from '@tuneloop/nano/facts';
import { SAMPLING } from '@tuneloop/nano/recipe';

const SHOWN = 5;
const LOOKED_AT = 50;
const WIDTH = 44;

/** Held-out prompts with an answer of the base and one of what serves now, both through the public door. */
export async function compareHeldOut(client: Client, versionId: string, seed: number): Promise<string[][]> {
  const page = await client.call(listDatasetExamples, {
    params: { id: versionId },
    query: { split: 'test', limit: LOOKED_AT },
  });
  const examples = [...new Map(page.data.map((example) => [example.group_key, example])).values()].slice(0, SHOWN);
  const rows: string[][] = [];
  for (const example of examples) {
    const before = await ask(client, 'nano:base', example, seed);
    const after = await ask(client, 'default', example, seed);
    const lines = Math.max(before.length, after.length);
    for (let line = 0; line < lines; line++) {
      rows.push([line === 0 ? subject(example) : '', before[line] ?? '', after[line] ?? '']);
    }
  }
  return rows;
}

async function ask(client: Client, model: string, example: ExampleRow, seed: number): Promise<string[]> {
  const answer = await client.call(
    createChatCompletion,
    {
      body: {
        model,
        messages: example.messages,
        seed,
        temperature: SAMPLING.temperature,
        max_tokens: SAMPLING.maxTokens,
        store: false,
      },
    },
    { idempotencyKey: crypto.randomUUID() },
  );
  const { choices } = answer as { choices: { message: { content: string | null } }[] };
  return wrap(choices[0]?.message.content ?? '');
}

/** The prompt in a few words. */
function subject(example: ExampleRow): string {
  const content = example.messages.at(-1)?.content;
  const facts = parseDescription(typeof content === 'string' ? content : '');
  return [facts.colour, facts.noun, facts.background && `on ${facts.background}`].filter(Boolean).join(' ');
}

function wrap(text: string): string[] {
  const lines: string[] = [''];
  for (const word of text.split(/\s+/)) {
    const current = lines.at(-1)!;
    if (current !== '' && current.length + word.length + 1 > WIDTH) lines.push(word);
    else lines[lines.length - 1] = current === '' ? word : `${current} ${word}`;
  }
  return lines;
}
