/** Deterministic automata over code points: patterns, and names that must differ from given ones. */
import { EngineError } from '../../errors.ts';
import { ANY, type CodePoints, complement, intersection, normalised, type Range } from './codePoints.ts';
import type { Expr, Grammar } from './grammar.ts';
import { parsePattern, type Pattern } from './regex.ts';

const MAX_NODES = 5000;
const MAX_STATES = 1000;
/** Pairs of state and count looked at to tell whether a pattern fits into a length. */
const MAX_LENGTH_CHECKS = 500_000;

/** State 0 is the start. Every state can still reach an accepting one. */
export interface TextAutomaton {
  readonly states: readonly {
    readonly accepting: boolean;
    readonly steps: readonly { readonly set: CodePoints; readonly to: number }[];
  }[];
}

function tooLarge(what: string): EngineError {
  return new EngineError('engine.sample.unsupported_pattern', `the pattern cannot be used: it has too many ${what}`);
}

interface Node {
  /** Edges taken without reading; `when` names where in the text they may be taken. */
  readonly free: { readonly to: number; readonly when?: 'start' | 'end' }[];
  readonly reading: { readonly set: CodePoints; readonly to: number }[];
}

/** Thompson's construction. */
class Network {
  readonly nodes: Node[] = [];

  node(): number {
    if (this.nodes.length >= MAX_NODES) throw tooLarge('parts');
    return this.nodes.push({ free: [], reading: [] }) - 1;
  }

  /** Adds `pattern` after node `from`, and gives the node after it. */
  add(pattern: Pattern, from: number): number {
    const { nodes } = this;
    switch (pattern.kind) {
      case 'set': {
        const to = this.node();
        nodes[from]!.reading.push({ set: pattern.set, to });
        return to;
      }
      case 'start':
      case 'end': {
        const to = this.node();
        nodes[from]!.free.push({ to, when: pattern.kind });
        return to;
      }
      case 'sequence':
        return pattern.items.reduce((at, item) => this.add(item, at), from);
      case 'choice': {
        const to = this.node();
        for (const item of pattern.items) {
          const begin = this.node();
          nodes[from]!.free.push({ to: begin });
          nodes[this.add(item, begin)]!.free.push({ to });
        }
        return to;
      }
      case 'repeat':
        return this.#repeat(pattern.item, pattern.min, pattern.max, from);
    }
  }

  #repeat(item: Pattern, min: number, max: number, from: number): number {
    let at = from;
    for (let i = 0; i < min; i++) at = this.add(item, at);
    const end = this.node();
    if (max === Infinity) {
      const loop = this.node();
      this.nodes[at]!.free.push({ to: loop });
      this.nodes[loop]!.free.push({ to: end });
      this.nodes[this.add(item, loop)]!.free.push({ to: loop });
      return end;
    }
    for (let i = min; i < max; i++) {
      this.nodes[at]!.free.push({ to: end });
      at = this.add(item, at);
    }
    this.nodes[at]!.free.push({ to: end });
    return end;
  }

  /** All nodes reached from `from` without reading. */
  closure(from: Iterable<number>, where: { readonly start?: boolean; readonly end?: boolean }): number[] {
    const seen = new Set(from);
    for (const at of seen) {
      for (const { to, when } of this.nodes[at]!.free) if (when === undefined || where[when] === true) seen.add(to);
    }
    return [...seen].sort((a, b) => a - b);
  }
}

/** The sets of target nodes by what is read, for ranges that part the code points. */
function targets(network: Network, from: readonly number[]): { set: CodePoints; to: number[] }[] {
  const edges = from.flatMap((at) => network.nodes[at]!.reading);
  const cuts = new Set<number>();
  for (const { set } of edges) for (const [low, high] of set) cuts.add(low).add(high + 1);
  const sorted = [...cuts].sort((a, b) => a - b);
  const groups = new Map<string, { ranges: Range[]; to: number[] }>();
  sorted.slice(0, -1).forEach((low, i) => {
    const to = edges.filter(({ set }) => set.some((r) => r[0] <= low && low <= r[1])).map((edge) => edge.to);
    if (to.length === 0) return;
    const key = [...new Set(to)].sort((a, b) => a - b).join();
    const group = groups.get(key) ?? { ranges: [], to };
    group.ranges.push([low, sorted[i + 1]! - 1]);
    groups.set(key, group);
  });
  return [...groups.values()].map(({ ranges, to }) => ({ set: normalised(ranges), to }));
}

/** @throws EngineError `engine.sample.unsupported_pattern` when it is too large, or when nothing matches it */
function compilePattern(pattern: Pattern): TextAutomaton {
  const network = new Network();
  const first = network.node();
  const last = network.add(pattern, first);
  const indices = new Map<string, number>();
  const sets: number[][] = [];
  const indexOf = (nodes: number[], start: boolean): number => {
    const closed = network.closure(nodes, { start });
    // At the start, `^` and `$` may hold together; states are told apart by it.
    const key = `${start}${closed.join()}`;
    const known = indices.get(key);
    if (known !== undefined) return known;
    if (sets.length >= MAX_STATES) throw tooLarge('states');
    indices.set(key, sets.length);
    return sets.push(closed) - 1;
  };
  indexOf([first], true);
  const states: { accepting: boolean; steps: { set: CodePoints; to: number }[] }[] = [];
  for (let i = 0; i < sets.length; i++) {
    const accepting = network.closure(sets[i]!, { start: i === 0, end: true }).includes(last);
    const steps = targets(network, sets[i]!).map(({ set, to }) => ({ set, to: indexOf(to, false) }));
    states.push({ accepting, steps });
  }
  return trimmed(states);
}

/**
 * The texts that `a` accepts and `b` accepts too, or does not.
 * @throws EngineError `engine.sample.unsupported_pattern` when there are too many states, or no such text
 */
export function combined(a: TextAutomaton, b: TextAutomaton, accepts: boolean): TextAutomaton {
  /** A state of `b`, or undefined where it has none to go on with. */
  const pairs: { readonly i: number; readonly j: number | undefined }[] = [];
  const indices = new Map<string, number>();
  const indexOf = (i: number, j: number | undefined): number => {
    const key = `${i}:${j}`;
    const known = indices.get(key);
    if (known !== undefined) return known;
    if (pairs.length >= MAX_STATES) throw tooLarge('states');
    indices.set(key, pairs.length);
    return pairs.push({ i, j }) - 1;
  };
  indexOf(0, 0);
  const states: { accepting: boolean; steps: { set: CodePoints; to: number }[] }[] = [];
  for (const { i, j } of pairs) {
    const other = j === undefined ? undefined : b.states[j]!;
    const steps = a.states[i]!.steps.flatMap(({ set, to }) => {
      const common = (other?.steps ?? []).flatMap((step) => {
        const both = intersection(set, step.set);
        return both.length === 0 ? [] : [{ set: both, to: indexOf(to, step.to) }];
      });
      if (accepts) return common;
      const left = intersection(set, complement(normalised(common.flatMap((step) => step.set))));
      return left.length === 0 ? common : [...common, { set: left, to: indexOf(to, undefined) }];
    });
    states.push({ accepting: a.states[i]!.accepting && (other?.accepting ?? false) === accepts, steps });
  }
  return trimmed(states);
}

/**
 * The texts of an ECMAScript pattern: those that the `whole` of it matches, or that have a match anywhere in them.
 * @throws EngineError `engine.sample.unsupported_pattern`
 */
export function patternAutomaton(source: string, where: 'whole' | 'anywhere'): TextAutomaton {
  const { pattern, conditions } = parsePattern(source);
  const rest: Pattern = { kind: 'repeat', item: { kind: 'set', set: ANY }, min: 0, max: Infinity };
  const items = where === 'whole' ? [pattern] : [rest, pattern, rest];
  return conditions.reduce(
    (found, condition) =>
      combined(found, compilePattern({ kind: 'sequence', items: [condition.pattern, rest] }), !condition.negative),
    compilePattern({ kind: 'sequence', items }),
  );
}

/** Leaves out the states from which no accepting one can be reached. */
function trimmed(states: TextAutomaton['states']): TextAutomaton {
  const alive = new Set<number>();
  for (let before = -1; before < alive.size; ) {
    before = alive.size;
    for (let i = states.length - 1; i >= 0; i--) {
      if (states[i]!.accepting || states[i]!.steps.some(({ to }) => alive.has(to))) alive.add(i);
    }
  }
  if (!alive.has(0)) {
    throw new EngineError('engine.sample.unsupported_pattern', 'the pattern cannot be used: no text matches it');
  }
  const kept = [...alive].sort((a, b) => a - b);
  const renumbered = new Map(kept.map((old, now) => [old, now]));
  return {
    states: kept.map((old) => ({
      accepting: states[old]!.accepting,
      steps: states[old]!.steps.flatMap(({ set, to }) => {
        const now = renumbered.get(to);
        return now === undefined ? [] : [{ set, to: now }];
      }),
    })),
  };
}

/** Texts of code points in `alphabet` that are none of `names`. */
export function differentFrom(names: readonly string[], alphabet: CodePoints): TextAutomaton {
  interface Prefix {
    whole: boolean;
    readonly next: Map<number, number>;
  }
  const prefixes: Prefix[] = [{ whole: false, next: new Map() }];
  for (const name of names) {
    let at = 0;
    for (const char of name) {
      const code = char.codePointAt(0)!;
      const { next } = prefixes[at]!;
      at = next.get(code) ?? prefixes.push({ whole: false, next: new Map() }) - 1;
      next.set(code, at);
    }
    prefixes[at]!.whole = true;
  }
  const other = prefixes.length;
  const states = prefixes.map(({ whole, next }) => {
    const known = normalised([...next.keys()].map((code): Range => [code, code]));
    const steps = [...next]
      .filter(([code]) => intersection([[code, code]], alphabet).length > 0)
      .map(([code, to]) => ({ set: [[code, code]] as CodePoints, to }));
    return { accepting: !whole, steps: [...steps, { set: intersection(alphabet, complement(known)), to: other }] };
  });
  return { states: [...states, { accepting: true, steps: [{ set: intersection(alphabet, ANY), to: other }] }] };
}

/**
 * A text that `automaton` accepts, of `min` to `max` code points, each written by `character`. Parts are made as they are
 * reached; ways that cannot end within the length are left out.
 * @throws EngineError `engine.sample.unsupported_pattern` when no text has both the pattern and the length
 */
export function textOf(
  grammar: Grammar,
  automaton: TextAutomaton,
  character: (grammar: Grammar, set: CodePoints) => Expr,
  length: { readonly min: number; readonly max: number },
): Expr {
  const { states } = automaton;
  const fits = new Map<string, boolean>();
  const canEnd = (state: number, min: number, max: number): boolean => {
    if (max < 0) return false;
    if (min <= 0 && (max === Infinity || states[state]!.accepting)) return true;
    const key = `${state}:${min}:${max}`;
    const known = fits.get(key);
    if (known !== undefined) return known;
    if (fits.size >= MAX_LENGTH_CHECKS) throw tooLarge('lengths');
    const result = states[state]!.steps.some(({ to }) => canEnd(to, Math.max(0, min - 1), max - 1));
    fits.set(key, result);
    return result;
  };
  if (!canEnd(0, length.min, length.max)) {
    throw new EngineError('engine.sample.unsupported_pattern', 'no text has both this pattern and this length');
  }
  const characters = new Map<CodePoints, Expr>();
  const one = (set: CodePoints): Expr => {
    const known = characters.get(set) ?? character(grammar, set);
    characters.set(set, known);
    return known;
  };
  const parts = new Map<string, Expr>();
  const part = (state: number, min: number, max: number): Expr => {
    const key = `${state}:${min}:${max}`;
    const known = parts.get(key);
    if (known !== undefined) return known;
    const made = grammar.reference(
      () => {
        const { accepting, steps } = states[state]!;
        const [less, left] = [Math.max(0, min - 1), max - 1];
        const ways = steps
          .filter(({ to }) => canEnd(to, less, left))
          .map(({ set, to }) => grammar.sequence([one(set), part(to, less, left)]));
        return grammar.choice(accepting && min === 0 ? [grammar.empty, ...ways] : ways);
      },
      { satisfiable: true },
    );
    parts.set(key, made);
    return made;
  };
  return part(0, length.min, length.max);
}
