import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readJsonLines } from './jsonLines.ts';
import { parseRow } from './rows.ts';

const user = { role: 'user', content: 'hi' };
const assistant = (content: string) => ({ role: 'assistant', content });

describe('parseRow', () => {
  it('reads every form into one of five kinds', () => {
    const line = 7;
    const forms: [unknown, object][] = [
      [{ messages: [user, assistant('a')] }, { kind: 'conversation', messages: [user, assistant('a')] }],
      [
        {
          conversations: [
            { from: 'human', value: 'hi' },
            { from: 'gpt', value: 'a' },
          ],
        },
        { kind: 'conversation', messages: [user, assistant('a')] },
      ],
      [{ text: 'hello' }, { kind: 'text', text: 'hello' }],
      [
        { prompt: 'p', completion: 'c' },
        { kind: 'completion', prompt: 'p', answer: 'c' },
      ],
      [
        { prompt: [user], completion: [assistant('a')] },
        { kind: 'completion', prompt: [user], answer: assistant('a') },
      ],
      [
        { instruction: 'do', input: 'this', output: 'o' },
        { kind: 'completion', prompt: 'do\n\nthis', answer: 'o' },
      ],
      [
        { prompt: 'p', chosen: 'a', rejected: 'b' },
        { kind: 'preference', prompt: 'p', chosen: 'a', rejected: 'b' },
      ],
      [
        { input: { messages: [user] }, preferred_output: [assistant('a')], non_preferred_output: [assistant('b')] },
        { kind: 'preference', prompt: [user], chosen: assistant('a'), rejected: assistant('b') },
      ],
      [
        { chosen: [user, assistant('a')], rejected: [user, assistant('b')], margin: 2 },
        { kind: 'preference', prompt: [user], chosen: assistant('a'), rejected: assistant('b'), margin: 2 },
      ],
      [
        { prompt: 'p', completion: 'c', scores: { a: 1 } },
        { kind: 'scored', prompt: 'p', answer: 'c', scores: { a: 1 } },
      ],
      [
        { prompt: 'p', completion: 'c', score: 2 },
        { kind: 'scored', prompt: 'p', answer: 'c', scores: { reward: 2 } },
      ],
      [
        { prompt: 'p', completion: 'c', label: false },
        { kind: 'rated', prompt: 'p', answer: 'c', desirable: false },
      ],
    ];
    for (const [value, expected] of forms) expect(parseRow(value, line)).toEqual({ line, ...expected });
  });

  it('joins parts of text, reads developers as system, keeps weights and tool calls', () => {
    const call = { role: 'assistant', content: null, tool_calls: [{ id: '1' }], weight: 0 };
    const parts = {
      role: 'developer',
      content: [
        { type: 'text', text: 'a' },
        { type: 'text', text: 'b' },
      ],
    };
    const row = parseRow({ messages: [parts, user, call, assistant('done')], tools: [{ name: 't' }] }, 1);
    expect(row).toMatchObject({
      messages: [{ role: 'system', content: 'ab' }, user, { content: '', weight: 0, tool_calls: [{ id: '1' }] }, {}],
      tools: [{ name: 't' }],
    });
  });

  it.each([
    [{ messages: [] }, /messages must hold at least one message/],
    [{ messages: [{ role: 'bot', content: 'x' }] }, /messages\.0\.role must be one of system, .*assistant/],
    [{ messages: [user] }, /no assistant message to learn from/],
    [{ messages: [user, { ...assistant('a'), weight: 0 }] }, /no assistant message to learn from/],
    [{ prompt: '', completion: 'x' }, /prompt/],
    [{ prompt: 'p', completion: 'c', label: 'good' }, /label must be true \(good\) or false/],
    [{ prompt: 'p', chosen: 'same', rejected: 'same' }, /both answers are the same/],
    [{ prompt: 'p', chosen: 'a' }, /rejected must be text or a list/],
    [{ chosen: [user, assistant('a')], rejected: [assistant('b')] }, /begin with the same messages/],
    [
      { input: { messages: [user] }, preferred_output: [user], non_preferred_output: [user] },
      /preferred_output must be/,
    ],
    [{ conversations: [{ from: 'alien', value: 'x' }] }, /conversations\.0\.from must be human, gpt or system/],
    [{ question: 'x', answer: 'y' }, /has the fields question, answer; known forms are \{messages\}/],
    [[1], /must be an object/],
  ])('says what is wrong with %j', (value, message) => {
    expect(() => parseRow(value, 1)).toThrow(message);
  });
});

describe('readJsonLines', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rows-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const written = async (name: string, content: string): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, content);
    return path;
  };

  it('passes over blank lines and a byte order mark, and counts lines as an editor does', async () => {
    const path = await written('good.jsonl', '\uFEFF{"text": "a"}\r\n\n{"text": "b"}');
    expect(await readJsonLines(path, parseRow)).toEqual([
      { kind: 'text', line: 1, text: 'a' },
      { kind: 'text', line: 3, text: 'b' },
    ]);
  });

  it('names each wrong line, and stops after a handful', async () => {
    const path = await written('bad.jsonl', `{"text": "a"}\n{"text": \n{"x": 1}\n${'[]\n'.repeat(20)}`);
    const message = await readJsonLines(path, parseRow).catch((error: Error) => error.message);
    expect(message).toContain(`${path}:2: is not JSON`);
    expect(message).toContain(`${path}:3: has the fields x`);
    expect(message).toContain(`${path}:6: must be an object`);
    expect(message).not.toContain(`${path}:7:`);
    expect(message).toContain('stopped after 5 wrong lines');
  });

  it('refuses a file without examples', async () => {
    await expect(readJsonLines(await written('empty.jsonl', '\n\n'), parseRow)).rejects.toThrow(/holds no examples/);
  });
});
