/**
 * Reads an answer byte by byte along a grammar. A state is the set of stacks of expressions that may follow (partial
 * derivatives, https://doi.org/10.1016/0304-3975(95)00182-4, with a stack in place of a concatenation, so that recursion
 * needs no special care). States and their steps are made when first met and kept.
 */
import { EngineError } from '../../errors.ts';
import { type Expr, Grammar } from './grammar.ts';

/** States kept; when there are more, all are forgotten and made again as needed. Deep nesting makes ever new ones. */
const MAX_STATES = 8192;
/** Ways to read what was written that may be open at once: schemas that overlap and recur can double them at each level. */
const MAX_STACKS = 20_000;

/** A stack of expressions still to be read. Equal stacks are one object. */
interface Stack {
  readonly id: number;
  readonly top: Expr | undefined;
  readonly rest: Stack | undefined;
  readonly pushed: Map<number, Stack>;
}

export interface State {
  /** Whether the answer may end here. */
  readonly accepting: boolean;
  /** Whether anything may follow. */
  readonly open: boolean;
}

interface MadeState extends State {
  /** Each with a byte range on top. */
  readonly stacks: readonly Stack[];
  readonly steps: (MadeState | undefined | null)[];
  readonly generation: number;
}

export class Automaton {
  readonly #grammar: Grammar;
  readonly #root: Expr;
  #states = new Map<string, MadeState>();
  #bottom: Stack;
  #generation = 0;
  #nextStack = 0;

  constructor(grammar: Grammar, root: Expr) {
    this.#grammar = grammar;
    this.#root = root;
    this.#bottom = this.#newStack(undefined, undefined);
  }

  start(): State {
    return this.#close([this.#push(this.#root, this.#bottom)]);
  }

  /** The state after one byte more, or null when no answer goes on so. `state` must come from this automaton. */
  step(state: State, byte: number): State | null {
    const from = state as MadeState;
    const current = from.generation === this.#generation;
    const known = current ? from.steps[byte] : undefined;
    if (known !== undefined) return known;
    const rest: Stack[] = [];
    for (const stack of from.stacks) {
      const range = stack.top;
      if (range?.kind === 'bytes' && byte >= range.low && byte <= range.high) rest.push(stack.rest!);
    }
    const next = rest.length === 0 ? null : this.#close(rest);
    // Making the next state may have begun a new generation, whose states an old one must not keep alive.
    if (current && from.generation === this.#generation) from.steps[byte] = next;
    return next;
  }

  #newStack(top: Expr | undefined, rest: Stack | undefined): Stack {
    return { id: this.#nextStack++, top, rest, pushed: new Map() };
  }

  #push(expr: Expr, rest: Stack): Stack {
    let stack = rest.pushed.get(expr.id);
    if (stack === undefined) {
      stack = this.#newStack(expr, rest);
      rest.pushed.set(expr.id, stack);
    }
    return stack;
  }

  /** Unfolds stacks until each has a byte range on top; a bottom means that the answer may end. */
  #close(stacks: readonly Stack[]): MadeState {
    const seen = new Set<Stack>(stacks);
    const ready: Stack[] = [];
    let accepting = false;
    for (const stack of seen) {
      const { top, rest } = stack;
      if (top === undefined || rest === undefined) accepting = true;
      else if (top.kind === 'bytes') ready.push(stack);
      else for (const unfolded of this.#unfold(top, rest)) seen.add(unfolded);
      if (seen.size > MAX_STACKS) {
        const why = 'it can be read in too many ways at once: let the schemas of an anyOf differ from their beginning';
        throw new EngineError('engine.sample.unsupported_schema', `the format cannot be used: ${why}`);
      }
    }
    ready.sort((a, b) => a.id - b.id);
    const key = `${accepting ? '+' : '-'}${ready.map(({ id }) => id).join()}`;
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    if (this.#states.size >= MAX_STATES) {
      this.#states = new Map();
      this.#bottom = this.#newStack(undefined, undefined);
      this.#generation++;
    }
    const state = { accepting, open: ready.length > 0, stacks: ready, steps: [], generation: this.#generation };
    this.#states.set(key, state);
    return state;
  }

  #unfold(top: Exclude<Expr, { kind: 'bytes' }>, rest: Stack): Stack[] {
    switch (top.kind) {
      case 'sequence':
        return [top.items.reduceRight((stack, item) => this.#push(item, stack), rest)];
      case 'choice':
        return top.items.map((item) => this.#push(item, rest));
      case 'reference':
        return [this.#push(top.target(), rest)];
      case 'repeat': {
        const { item, min, max } = top;
        const skipped = min === 0 ? [rest] : [];
        if (max === 0) return skipped;
        const again = this.#grammar.repeat(item, Math.max(0, min - 1), max - 1);
        return [this.#push(item, max === 1 ? rest : this.#push(again, rest)), ...skipped];
      }
    }
  }
}
