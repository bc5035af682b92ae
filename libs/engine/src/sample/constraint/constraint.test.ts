import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { fixturePath } from '../../../fixtures/fixtures.ts';
import { createRandom } from '../../random.ts';
import { loadTokenizerFolder } from '../../tokenizer/tokenizer.ts';
import { Automaton, type State } from './automaton.ts';
import { Constraints, type ResponseFormat } from './constraint.ts';
import { jsonSchemaGrammar } from './jsonSchema.ts';
import { hasToken } from './vocabulary.ts';

async function speakerOf(folder: string) {
  const tokenizer = await loadTokenizerFolder(fixturePath(folder));
  // Models have more outputs than their tokenizers have tokens.
  return { tokenizer, constraints: new Constraints(tokenizer, tokenizer.vocabSize + 5) };
}

const own = await speakerOf('bpe');

const ajv = new Ajv2020({ strict: false, allErrors: false, validateFormats: true });
addFormats.default(ajv);

/** What the automaton makes of a text: it cannot begin so, it can go on, or it may end here. */
function read(schema: unknown, text: string): 'refused' | 'begun' | 'whole' {
  const { grammar, root } = jsonSchemaGrammar(schema);
  const automaton = new Automaton(grammar, root);
  let state: State | null = automaton.start();
  for (const byte of Buffer.from(text)) {
    state = automaton.step(state, byte);
    if (state === null) return 'refused';
  }
  return state.accepting ? 'whole' : 'begun';
}

/** Draws allowed tokens at random until the answer ends; undefined when it is longer than `most`. */
function wander(format: ResponseFormat, seed: number, most: number, speaker = own): string | undefined {
  const { tokenizer, constraints } = speaker;
  const END = tokenizer.eosTokenId!;
  const size = tokenizer.vocabSize;
  const constraint = constraints.create(format, new Set([END]));
  const random = createRandom(seed);
  const tokens: number[] = [];
  const closers = new Set(['"', '}', ']', '"}', ']}'].map((text) => tokenizer.tokenId(text)));
  while (!constraint.ended && tokens.length < most) {
    const set = constraint.allowed();
    const allowed = Array.from({ length: size }, (_, id) => id).filter((id) => hasToken(set, id));
    // Half of the time towards the end, so that answers have one.
    const ending = allowed.filter((id) => id === END || closers.has(id));
    const pool = ending.length > 0 && random() < 0.5 ? ending : allowed;
    const token = pool[Math.floor(random() * pool.length)]!;
    if (token === END) return tokenizer.decode(tokens);
    constraint.accept(token);
    tokens.push(token);
  }
  return constraint.ended ? tokenizer.decode(tokens) : undefined;
}

const string = { type: 'string' };
const person = {
  type: 'object',
  properties: { name: string, age: { type: 'integer', minimum: 0 }, tags: { type: 'array', items: string } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const tree = {
  $ref: '#/$defs/node',
  $defs: {
    node: {
      type: 'object',
      properties: { value: { type: 'number' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
      required: ['value', 'next'],
    },
  },
};

describe('what is read', () => {
  it.each([
    [person, '{"name":"Ann","age":3}', 'whole'],
    [person, ' {\n  "name": "Ann",\n  "age": 3,\n  "tags": ["a", "b"]\n}', 'whole'],
    [person, '{"name":"Ann"', 'begun'],
    [person, '{"name":"Ann"}', 'refused'],
    [person, '{"name":"Ann","age":-1', 'refused'],
    [person, '{"name":"Ann","age":3,"x"', 'refused'],
    [person, '{"name":"é🙂\\n\\"\\u001f","age":0}', 'whole'],
    [person, '{"name":"a\nb"', 'refused'],
    [tree, '{"value":1,"next":{"value":-2.5e3,"next":null}}', 'whole'],
    [tree, '{"value":1,"next":{"value":2}', 'refused'],
    [{}, '[{"a":[]},1,null,true,"x"]', 'whole'],
    [{ type: 'object', additionalProperties: { type: 'boolean' } }, '{"a":true, "b":false}', 'whole'],
    [{ properties: { ab: string }, additionalProperties: { type: 'null' } }, '{"a":null,"abc":null}', 'whole'],
    [{ properties: { ab: string }, additionalProperties: { type: 'null' } }, '{"ab":null', 'refused'],
    [{ properties: { ab: string }, additionalProperties: true }, '{"\\u0061b"', 'refused'],
    [{ type: 'array', items: { type: 'null' }, minItems: 1, maxItems: 2 }, '[]', 'refused'],
    [{ type: 'array', items: { type: 'null' }, minItems: 1, maxItems: 2 }, '[null,null]', 'whole'],
    [{ type: 'array', items: { type: 'null' }, minItems: 1, maxItems: 2 }, '[null,null,', 'refused'],
    [{ prefixItems: [string, { type: 'null' }], minItems: 2 }, '["a",null]', 'whole'],
    [{ prefixItems: [string], items: { type: 'null' } }, '["a",null,null]', 'whole'],
    [{ enum: ['red', 3, null, { a: [1] }] }, '{"a":[1]}', 'whole'],
    [{ enum: ['red', 3], type: 'string' }, '3', 'refused'],
    [{ const: 'x"y' }, '"x\\"y"', 'whole'],
    [{ type: 'string', minLength: 2, maxLength: 3 }, '"é"', 'refused'],
    [{ type: 'string', minLength: 2, maxLength: 3 }, '"🙂🙂🙂"', 'whole'],
    [{ type: 'string', minLength: 2, maxLength: 3 }, '"abcd', 'refused'],
    [{ type: 'string', pattern: '^[A-Z]{2}-\\d+$' }, '"AB-12"', 'whole'],
    [{ type: 'string', pattern: '^[A-Z]{2}-\\d+$' }, '"AB-x', 'refused'],
    [{ type: 'string', pattern: 'b+' }, '"abc"', 'whole'],
    [{ type: 'string', pattern: 'b+' }, '"ac"', 'refused'],
    [{ type: 'string', pattern: '^(ab)*$', maxLength: 5 }, '"ababa', 'refused'],
    [{ type: 'string', pattern: '"' }, '"\\""', 'whole'],
    [{ type: 'integer', minimum: -12, maximum: 305 }, '-13', 'refused'],
    [{ type: 'integer', minimum: -12, maximum: 305 }, '-12', 'whole'],
    [{ type: 'integer', minimum: -12, maximum: 305 }, '305', 'whole'],
    [{ type: 'integer', minimum: -12, maximum: 305 }, '306', 'refused'],
    [{ type: 'integer' }, '007', 'refused'],
    [{ type: 'number', minimum: 0, exclusiveMaximum: 1 }, '0.9999', 'whole'],
    [{ type: 'number', minimum: 0, exclusiveMaximum: 1 }, '1', 'refused'],
    [{ type: 'number', minimum: 0, exclusiveMaximum: 1 }, '-', 'refused'],
    [{ type: 'number', exclusiveMinimum: 0.25 }, '0.25', 'begun'],
    [{ type: 'number', exclusiveMinimum: 0.25 }, '0.251', 'whole'],
    [{ type: 'number', exclusiveMinimum: 0.25 }, '17.5', 'whole'],
    [{ type: 'number', minimum: -1.5, maximum: -0.5 }, '-1.50', 'whole'],
    [{ type: 'number', minimum: -1.5, maximum: -0.5 }, '-1.51', 'refused'],
    [{ type: 'number', minimum: -1.5, maximum: -0.5 }, '-0.4', 'refused'],
    [{ type: ['string', 'null'] }, 'null', 'whole'],
    [
      { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
      '-999999999999999',
      'whole',
    ],
    [{ type: 'number', maximum: Number.MAX_VALUE }, '1e', 'refused'],
    [{ type: 'string', format: 'date' }, '"2024-02-30', 'refused'],
    [{ type: 'string', format: 'date', pattern: '^19' }, '"2', 'refused'],
    [{ type: 'string', format: 'date', pattern: '^19' }, '"1999-01-31"', 'whole'],
    [{ type: 'string', format: 'date-time' }, '"2024-12-31T23:59:59Z"', 'whole'],
  ] as const)('%j with %s is %s', (schema, text, outcome) => {
    expect(read(schema, text)).toBe(outcome);
  });

  it('reads every spelling of Python and JavaScript', () => {
    const value = { name: 'ab', age: 1, tags: ['x', 'y'] };
    for (const text of [JSON.stringify(value), JSON.stringify(value, null, 2), '{"name": "ab", "age": 1}']) {
      expect(read(person, text)).toBe('whole');
    }
  });
});

describe('what is refused', () => {
  it.each([
    [{ type: 'number', multipleOf: 2 }, '#/multipleOf'],
    [{ type: 'object', properties: { 'a/b': { not: {} } } }, '#/properties/a~1b/not'],
    [{ anyOf: [{ type: 'string' }, { type: 'array', items: string, uniqueItems: true }] }, '#/anyOf/1/uniqueItems'],
    [{ $ref: 'other.json' }, '#/$ref'],
    [{ $ref: '#/$defs/a', $defs: { a: { patternProperties: {} } } }, '#/$defs/a/patternProperties'],
    [{ type: 'string', format: 'iri' }, '#/format'],
    [{ type: 'string', pattern: '(?=a)b' }, '#/pattern'],
    [{ type: 'string', pattern: '(a' }, '#/pattern'],
    [{ type: 'string', pattern: '^(aa)+$', minLength: 3, maxLength: 3 }, '#/pattern'],
    [{ type: 'integer', minimum: 0.2, maximum: 0.8 }, '#:'],
    [{ type: 'integer', minimum: 2 ** 60 }, '#/minimum'],
    [{ type: 'object', propertyNames: { pattern: '^a' } }, '#/propertyNames'],
    [{ type: 'string', format: 'date', pattern: '^x' }, '#/pattern'],
    [{ type: 'text' }, '#/type'],
    [{ oneOf: [{ type: 'number' }, { type: 'integer' }] }, '#/oneOf'],
    [{ type: 'object', properties: { self: { $ref: '#' } }, required: ['self'] }, '#:'],
    [{ $ref: '#' }, '#:'],
    [false, '#:'],
  ])('%j at %s', (schema, place) => {
    expect(() => jsonSchemaGrammar(schema)).toThrow(
      expect.objectContaining({
        code: 'engine.sample.unsupported_schema',
        message: expect.stringContaining(place.replace(/:$/, '')),
      }),
    );
  });

  it('gives up on what can be read in ever more ways', () => {
    const list = { type: 'array', items: { $ref: '#' } };
    const schema = { anyOf: [list, { ...list, minItems: 1 }, { type: 'null' }] };
    expect(read(schema, '[[[null],[]]]')).toBe('whole');
    expect(() => read(schema, '['.repeat(40))).toThrow(/too many ways/);
  });

  it('takes schemas of oneOf that exclude each other', () => {
    const kind = (name: string) => ({
      type: 'object',
      properties: { kind: { const: name }, [name]: string },
      required: ['kind'],
    });
    expect(read({ oneOf: [kind('a'), kind('b'), { type: 'null' }] }, '{"kind":"b","b":"x"}')).toBe('whole');
    expect(read({ oneOf: [kind('a'), kind('b')] }, '{"kind":"b","a"')).toBe('refused');
  });
});

const leaf = fc.oneof(
  fc.constantFrom<object>(
    {},
    { type: 'boolean' },
    { type: 'null' },
    { type: ['integer', 'null'] },
    { type: 'string', format: 'date' },
    { type: 'string', format: 'email' },
    { type: 'string', format: 'uuid' },
    { type: 'string', pattern: '^(red|blue)\\s\\w{1,4}$' },
    { type: 'string', pattern: '[^a-f"]$', minLength: 2, maxLength: 6 },
    { $ref: '#/$defs/shared' },
  ),
  fc
    .tuple(fc.nat(3), fc.nat(4))
    .map(([minLength, more]) => ({ type: 'string', minLength, maxLength: minLength + more })),
  fc
    .tuple(fc.integer({ min: -500, max: 500 }), fc.nat(400))
    .map(([minimum, span]) => ({ type: 'integer', minimum, exclusiveMaximum: minimum + span + 1 })),
  fc
    .tuple(fc.integer({ min: -9999, max: 9999 }), fc.integer({ min: 1, max: 5000 }), fc.boolean())
    .map(([low, span, exclusive]) => ({
      type: 'number',
      [exclusive ? 'exclusiveMinimum' : 'minimum']: low / 100,
      [exclusive ? 'exclusiveMaximum' : 'maximum']: (low + span) / 100,
    })),
  fc
    .uniqueArray(fc.jsonValue({ maxDepth: 1 }), { minLength: 1, maxLength: 3, selector: (v) => JSON.stringify(v) })
    .map((values) => ({ enum: values })),
);

const { schema: schemas } = fc.letrec((tie) => ({
  schema: fc.oneof({ depthSize: 'small', withCrossShrink: true }, leaf, tie('object'), tie('array'), tie('any')),
  object: fc
    .record({
      names: fc.uniqueArray(fc.constantFrom('a', 'ab', 'é"', 'name', 'x y'), { maxLength: 4 }),
      values: fc.array(tie('schema'), { minLength: 4, maxLength: 4 }),
      required: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      others: fc.oneof(fc.constant(undefined), fc.boolean(), tie('schema')),
    })
    .map(({ names, values, required, others }) => ({
      type: 'object',
      properties: Object.fromEntries(names.map((name, i) => [name, values[i]])),
      required: names.filter((_, i) => required[i]),
      ...(others !== undefined && { additionalProperties: others }),
    })),
  array: fc
    .record({
      items: tie('schema'),
      minItems: fc.nat(2),
      more: fc.nat(2),
      prefix: fc.array(tie('schema'), { maxLength: 2 }),
    })
    .map(({ items, minItems, more, prefix }) => ({
      type: 'array',
      items,
      minItems,
      maxItems: minItems + more,
      ...(prefix.length > 0 && { prefixItems: prefix }),
    })),
  any: fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
}));

describe('with random tokens', () => {
  it('every answer that ends is JSON that the schema accepts, by another validator', () => {
    let ended = 0;
    let drawn = 0;
    fc.assert(
      fc.property(schemas, fc.nat(), (inner, seed) => {
        const $defs = { shared: { type: 'object', properties: { again: { $ref: '#/$defs/shared' } } } };
        const schema = { ...(inner as object), $defs };
        const validate = ajv.compile(schema);
        for (let i = 0; i < 3; i++) {
          const text = wander({ type: 'json_schema', schema }, seed + i, 300);
          drawn++;
          if (text === undefined) continue;
          ended++;
          const value: unknown = JSON.parse(text);
          expect(validate(value), `${text} for ${JSON.stringify(schema)}`).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
    // Enough of them must have ended for this to say anything.
    expect(ended / drawn).toBeGreaterThan(0.6);
  });

  it.each(['llama2', 'mistral', 'mistral-nemo', 'llama3', 'qwen', 'smollm2'])(
    'holds with the tokens of %s',
    async (family) => {
      const speaker = await speakerOf(`families/${family}`);
      const schema = {
        type: 'object',
        properties: {
          ' a': { const: ' ü 日本 ' },
          text: { type: 'string', minLength: 1, maxLength: 8 },
          n: { type: 'number', minimum: 0 },
        },
        required: [' a', 'text', 'n'],
      };
      const validate = ajv.compile(schema);
      for (let seed = 0; seed < 12; seed++) {
        const text = wander({ type: 'json_schema', schema }, seed, 200, speaker);
        expect(text).toBeDefined();
        expect(validate(JSON.parse(text!)), text).toBe(true);
      }
    },
  );

  it('holds to what zod writes', () => {
    const shape = z.object({
      id: z.uuid(),
      email: z.email(),
      born: z.iso.date(),
      at: z.iso.datetime(),
      age: z.int().min(0).max(150),
      score: z.number().gt(0).lte(1).nullable(),
      kind: z.enum(['a', 'b']).optional(),
      pair: z.tuple([z.string().max(3), z.boolean()]),
      counts: z.record(z.string(), z.int()),
      item: z.discriminatedUnion('t', [
        z.object({ t: z.literal('x'), v: z.literal(1) }),
        z.object({ t: z.literal('y'), w: z.array(z.boolean()).max(2) }),
      ]),
    });
    const schema = z.toJSONSchema(shape);
    let ended = 0;
    for (let seed = 0; seed < 12; seed++) {
      const text = wander({ type: 'json_schema', schema }, seed, 900);
      if (text === undefined) continue;
      ended++;
      expect(shape.safeParse(JSON.parse(text)).error, text).toBeUndefined();
    }
    expect(ended).toBeGreaterThan(6);
  });

  it('json_object gives objects, regex gives whole matches', () => {
    for (let seed = 0; seed < 20; seed++) {
      const object = wander({ type: 'json_object' }, seed, 300);
      if (object !== undefined) expect(Object.getPrototypeOf(JSON.parse(object))).toBe(Object.prototype);
      const pattern = '(yes|no), [^\\d]{1,5}\\.(\\d{2})?';
      const text = wander({ type: 'regex', pattern }, seed, 300);
      expect(text).toMatch(new RegExp(`^(?:${pattern})$`, 'u'));
    }
  });

  it('offers a stop token only where the answer may end', () => {
    const schema = { type: 'integer', minimum: 10, maximum: 99 };
    const { tokenizer, constraints } = own;
    const END = tokenizer.eosTokenId!;
    const constraint = constraints.create({ type: 'json_schema', schema }, new Set([END]));
    const take = (text: string): boolean => {
      const before = hasToken(constraint.allowed(), END);
      constraint.accept(tokenizer.tokenId(text)!);
      return before;
    };
    expect([take('4'), take('2')]).toEqual([false, false]);
    expect(constraint.ended).toBe(true);
  });
});
