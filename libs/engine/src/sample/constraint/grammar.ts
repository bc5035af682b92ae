/**
 * What an answer may look like, byte by byte: expressions of concatenation, choice, repetition and reference. References
 * may be recursive, so the language need not be regular. `automaton.ts` reads them.
 */

/** An expression; `id` is unique within its grammar. */
export type Expr =
  | { readonly id: number; readonly kind: 'bytes'; readonly low: number; readonly high: number }
  | { readonly id: number; readonly kind: 'sequence'; readonly items: readonly Expr[] }
  | { readonly id: number; readonly kind: 'choice'; readonly items: readonly Expr[] }
  | { readonly id: number; readonly kind: 'repeat'; readonly item: Expr; readonly min: number; readonly max: number }
  | Reference;

/** Stands for `target()`, which is made when first needed: for recursion, and for what is large if written out. */
export interface Reference {
  readonly id: number;
  readonly kind: 'reference';
  readonly target: () => Expr;
  /** Known to match something: its target need not be made to find that out. */
  readonly satisfiable: boolean;
}

const UTF8 = new TextEncoder();

/** Makes expressions; equal ones of bytes and repetition are one object, so that equal states are seen to be equal. */
export class Grammar {
  readonly #bytes = new Map<number, Expr>();
  readonly #repeats = new Map<string, Expr>();
  #nextId = 0;
  readonly empty: Expr = this.sequence([]);

  /** One byte from `low` to `high`. */
  bytes(low: number, high = low): Expr {
    const key = low * 256 + high;
    let expr = this.#bytes.get(key);
    if (expr === undefined) {
      expr = { id: this.#nextId++, kind: 'bytes', low, high };
      this.#bytes.set(key, expr);
    }
    return expr;
  }

  /** The UTF-8 bytes of a text. */
  literal(text: string): Expr {
    return this.sequence(Array.from(UTF8.encode(text), (byte) => this.bytes(byte)));
  }

  sequence(items: readonly Expr[]): Expr {
    return items.length === 1 ? items[0]! : { id: this.#nextId++, kind: 'sequence', items };
  }

  choice(items: readonly Expr[]): Expr {
    return items.length === 1 ? items[0]! : { id: this.#nextId++, kind: 'choice', items };
  }

  optional(item: Expr): Expr {
    return this.repeat(item, 0, 1);
  }

  /** `item` from `min` to `max` times; `max` may be infinite. */
  repeat(item: Expr, min: number, max: number): Expr {
    const key = `${item.id}:${min}:${max}`;
    let expr = this.#repeats.get(key);
    if (expr === undefined) {
      expr = { id: this.#nextId++, kind: 'repeat', item, min, max };
      this.#repeats.set(key, expr);
    }
    return expr;
  }

  reference(make: () => Expr, options: { readonly satisfiable?: boolean } = {}): Reference {
    let made: Expr | undefined;
    const target = (): Expr => (made ??= make());
    return { id: this.#nextId++, kind: 'reference', target, satisfiable: options.satisfiable ?? false };
  }
}

function children(expr: Expr): readonly Expr[] {
  if (expr.kind === 'bytes') return [];
  if (expr.kind === 'reference') return expr.satisfiable ? [] : [expr.target()];
  return expr.kind === 'repeat' ? [expr.item] : expr.items;
}

/** The expressions under `root` that match no finite text, such as an object that must contain itself. */
export function unsatisfiable(root: Expr): Set<Expr> {
  const reachable = new Set<Expr>([root]);
  for (const expr of reachable) for (const child of children(expr)) reachable.add(child);
  const matched = new Set<Expr>();
  const matches = (expr: Expr): boolean => {
    switch (expr.kind) {
      case 'bytes':
        return true;
      case 'sequence':
        return expr.items.every((item) => matched.has(item));
      case 'choice':
        return expr.items.some((item) => matched.has(item));
      case 'repeat':
        return expr.min === 0 || matched.has(expr.item);
      case 'reference':
        return expr.satisfiable || matched.has(expr.target());
    }
  };
  // A least fixed point: what has a finite match is found from the leaves up.
  let found: number;
  do {
    found = matched.size;
    // Children come after their parents in the order of discovery.
    for (const expr of [...reachable].toReversed()) if (!matched.has(expr) && matches(expr)) matched.add(expr);
  } while (matched.size > found);
  return new Set([...reachable].filter((expr) => !matched.has(expr)));
}
