import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Automaton, State } from './automaton.ts';

/** Bits by token id: bit `id % 32` of word `id / 32`. */
export type TokenSet = Uint32Array;

export function hasToken(set: TokenSet, token: number): boolean {
  return ((set[token >>> 5]! >>> (token & 31)) & 1) === 1;
}

export function addToken(set: TokenSet, token: number): void {
  set[token >>> 5]! |= 1 << (token & 31);
}

export function removeToken(set: TokenSet, token: number): void {
  set[token >>> 5]! &= ~(1 << (token & 31));
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

/**
 * The bytes of a model's tokens as a prefix tree, so that tokens with a common beginning are tried together. Nodes lie in
 * the order of a depth-first walk: leaving a subtree out is a jump to `next[node]`.
 */
export class Vocabulary {
  readonly size: number;
  /** By token id; undefined for special and added tokens, which stand for no text. */
  readonly #tokens: readonly (Uint8Array | undefined)[];
  readonly #byte: Uint8Array;
  readonly #depth: Uint8Array | Uint16Array;
  readonly #next: Int32Array;
  /** Tokens ending at a node: `#ids[#first[node] .. #first[node + 1])`. */
  readonly #first: Int32Array;
  readonly #ids: Int32Array;

  /** @param size of the model's output; the tokenizer may know fewer or more tokens */
  constructor(tokenizer: Tokenizer, size: number) {
    this.size = size;
    this.#tokens = Array.from({ length: size }, (_, id) => tokenizer.tokenBytes(id));
    const entries = this.#tokens
      .flatMap((bytes, id) => (bytes === undefined || bytes.length === 0 ? [] : [{ bytes, id }]))
      .sort((a, b) => compareBytes(a.bytes, b.bytes) || a.id - b.id);
    const total = entries.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const byte = new Uint8Array(total);
    const depth = new Uint16Array(total);
    const next = new Int32Array(total);
    const first = new Int32Array(total + 1);
    const ids = new Int32Array(entries.length);
    const path: number[] = [];
    let nodes = 0;
    let previous = new Uint8Array(0);
    entries.forEach(({ bytes, id }, index) => {
      let shared = 0;
      while (shared < previous.length && shared < bytes.length && previous[shared] === bytes[shared]) shared++;
      while (path.length > shared) next[path.pop()!] = nodes;
      for (let at = shared; at < bytes.length; at++) {
        byte[nodes] = bytes[at]!;
        depth[nodes] = at;
        first[nodes] = index;
        path.push(nodes++);
      }
      ids[index] = id;
      previous = Uint8Array.from(bytes);
    });
    while (path.length > 0) next[path.pop()!] = nodes;
    first[nodes] = entries.length;
    this.#byte = byte.slice(0, nodes);
    this.#depth = depth.slice(0, nodes);
    this.#next = next.slice(0, nodes);
    this.#first = first.slice(0, nodes + 1);
    this.#ids = ids;
  }

  /** The bytes that a token adds to the answer; undefined for special tokens. */
  bytes(token: number): Uint8Array | undefined {
    return this.#tokens[token];
  }

  /** The tokens whose bytes can be read from `state` on. */
  allowed(automaton: Automaton, state: State): TokenSet {
    const set = new Uint32Array(Math.ceil(this.size / 32));
    const states: State[] = [state];
    const nodes = this.#byte.length;
    for (let node = 0; node < nodes; ) {
      const depth = this.#depth[node]!;
      const reached = automaton.step(states[depth]!, this.#byte[node]!);
      if (reached === null) {
        node = this.#next[node]!;
        continue;
      }
      states[depth + 1] = reached;
      const end = this.#first[node + 1]!;
      for (let i = this.#first[node]!; i < end; i++) addToken(set, this.#ids[i]!);
      node++;
    }
    return set;
  }
}
