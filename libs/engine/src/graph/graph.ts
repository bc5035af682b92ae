/**
 * A graph under construction. Operations (`ops/`) are functions that take named values and return new ones: each adds
 * ONNX nodes, and records on the tape how its gradient is made. Emission and tape are separate, so an operation of
 * several nodes (attention, SwiGLU) can have one hand-derived gradient instead of the chain rule over its parts.
 */
import {
  type Attribute,
  type Dim,
  type ElementType,
  encodeOnnxModel,
  type OnnxInitializer,
  type OnnxNode,
} from './onnx.ts';

export type { Attribute, Dim, ElementType } from './onnx.ts';

/** A tensor in a graph: an input, a constant or a node's output. */
export interface Value {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly Dim[];
}

/**
 * Makes one input's share of the gradient and adds it to what other uses of that input gave. It gets the running sum
 * so that a matrix product can accumulate in place (Gemm's C) and save a pass; it is not called for an input that no
 * wanted gradient goes through.
 */
export type Contribution = (sum: Value | undefined) => Value;

export interface TapeEntry {
  readonly inputs: readonly Value[];
  readonly output: Value;
  /** One contribution for each input; undefined where the input has no gradient (indices, masks). */
  readonly backward: (outputGradient: Value) => readonly (Contribution | undefined)[];
}

export interface NodeOptions {
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly type?: ElementType;
}

/** A node as `operations` tells of it. */
export interface Operation {
  readonly op: string;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
}

export const int = (value: number): Attribute => ({ kind: 'int', value });
export const float = (value: number): Attribute => ({ kind: 'float', value });
export const ints = (value: readonly number[]): Attribute => ({ kind: 'ints', value });

export class Graph {
  readonly #inputs: Value[] = [];
  readonly #outputs: Value[] = [];
  readonly #nodes: OnnxNode[] = [];
  readonly #initializers: OnnxInitializer[] = [];
  readonly #tape: TapeEntry[] = [];
  readonly #constants = new Map<string, Value>();
  readonly #names = new Set<string>();
  /** Inputs, constants and what nodes give, by name. */
  readonly #values = new Map<string, Value>();
  readonly #provided = new Map<string, Value>();
  #counter = 0;

  get tape(): readonly TapeEntry[] {
    return this.#tape;
  }

  get inputs(): readonly Value[] {
    return this.#inputs;
  }

  get outputs(): readonly Value[] {
    return this.#outputs;
  }

  get nodeCount(): number {
    return this.#nodes.length;
  }

  /** Declares a graph input. `name` is the key of the feed. */
  input(name: string, dims: readonly Dim[], type: ElementType = 'float32'): Value {
    this.#claim(name);
    const value: Value = { name, type, dims };
    this.#inputs.push(value);
    this.#values.set(name, value);
    return value;
  }

  /** A constant tensor; equal small constants are stored once. */
  constant(dims: readonly number[], data: Float32Array | BigInt64Array | Uint8Array): Value {
    const type: ElementType = data instanceof Float32Array ? 'float32' : data instanceof Uint8Array ? 'uint8' : 'int64';
    const key = data.length <= 16 ? `${type}[${dims.join()}]=${data.join()}` : undefined;
    const known = key === undefined ? undefined : this.#constants.get(key);
    if (known !== undefined) return known;
    const value: Value = { name: this.#fresh('const'), type, dims };
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#initializers.push({ name: value.name, type, dims, bytes });
    this.#values.set(value.name, value);
    if (key !== undefined) this.#constants.set(key, value);
    return value;
  }

  /** A float constant of shape `[]`. */
  scalar(value: number): Value {
    return this.constant([], Float32Array.of(value));
  }

  /** An int64 constant of shape `[values.length]`. */
  int64s(values: readonly number[]): Value {
    return this.constant([values.length], BigInt64Array.from(values, BigInt));
  }

  /** Adds a node with one output of shape `dims`. */
  node(op: string, inputs: readonly Value[], dims: readonly Dim[], options: NodeOptions = {}): Value {
    return this.nodes(op, inputs, [dims], options)[0]!;
  }

  /** Adds a node with several outputs, all of one element type. */
  nodes(op: string, inputs: readonly Value[], dims: readonly (readonly Dim[])[], options: NodeOptions = {}): Value[] {
    const type = options.type ?? 'float32';
    const outputs = dims.map((d): Value => ({ name: this.#fresh(op), type, dims: d }));
    this.#nodes.push({
      op,
      domain: options.domain ?? '',
      inputs: inputs.map((v) => v.name),
      outputs: outputs.map((v) => v.name),
      attributes: options.attributes ?? {},
    });
    for (const output of outputs) this.#values.set(output.name, output);
    return outputs;
  }

  /** Records how `output` depends on `inputs`, for `gradients`. */
  record(inputs: readonly Value[], output: Value, backward: TapeEntry['backward']): Value {
    this.#tape.push({ inputs, output, backward });
    return output;
  }

  /** Makes `value` a graph output under `name`. */
  output(name: string, value: Value): Value {
    this.#claim(name);
    this.#nodes.push({ op: 'Identity', domain: '', inputs: [value.name], outputs: [name], attributes: {} });
    const output: Value = { name, type: value.type, dims: value.dims };
    this.#outputs.push(output);
    return output;
  }

  /** Makes a computed value a graph output under its own name. */
  expose(value: Value): void {
    this.#outputs.push(value);
  }

  /**
   * Makes a computed value an input under its own name: it is fed from an earlier run of the same construction, and what
   * only it needed is left out of the model. `value` must be the only output of its node.
   */
  provide(value: Value): void {
    const maker = this.#nodes.find((node) => node.outputs.includes(value.name));
    if (maker?.outputs.length !== 1) throw new Error(`${value.name} is not the only output of a node`);
    this.#provided.set(value.name, value);
  }

  /**
   * The values among the first `end` nodes that the outputs need and `stops` names, each where a path from an output
   * first meets one: with all of them provided, nothing behind them is left.
   */
  frontier(end: number, stops: (node: OnnxNode, output: Value) => boolean): Value[] {
    const found: Value[] = [];
    this.#live((node, index) => {
      const value = index < end ? this.#values.get(node.outputs[0] ?? '') : undefined;
      if (value === undefined || node.outputs.length !== 1 || !stops(node, value)) return false;
      found.push(value);
      return true;
    });
    return found.toReversed();
  }

  /** The nodes that the model will have, with the values they read and make (graph outputs' own names left out). */
  operations(): Operation[] {
    const values = (names: readonly string[]): Value[] => names.flatMap((name) => this.#values.get(name) ?? []);
    const { nodes } = this.#live((node) => this.#provided.has(node.outputs[0] ?? ''));
    return nodes.map(({ op, inputs, outputs }) => ({ op, inputs: values(inputs), outputs: values(outputs) }));
  }

  /** The ONNX model of what the outputs need; other nodes, inputs and constants are left out. */
  toBytes(): Uint8Array {
    const { nodes, used } = this.#live((node) => this.#provided.has(node.outputs[0] ?? ''));
    return encodeOnnxModel({
      inputs: [...this.#inputs, ...this.#provided.values()].filter((v) => used.has(v.name)),
      outputs: this.#outputs,
      nodes,
      initializers: this.#initializers.filter((t) => used.has(t.name)),
    });
  }

  /** Nodes that the outputs need, with every name these read; nodes that `stop` accepts are not entered. */
  #live(stop: (node: OnnxNode, index: number) => boolean): { nodes: OnnxNode[]; used: Set<string> } {
    const used = new Set(this.#outputs.map((v) => v.name));
    const nodes: OnnxNode[] = [];
    for (let i = this.#nodes.length - 1; i >= 0; i--) {
      const node = this.#nodes[i]!;
      if (!node.outputs.some((name) => used.has(name)) || stop(node, i)) continue;
      for (const name of node.inputs) used.add(name);
      nodes.push(node);
    }
    return { nodes: nodes.toReversed(), used };
  }

  #claim(name: string): void {
    if (this.#names.has(name)) throw new Error(`the graph already has a value named ${name}`);
    this.#names.add(name);
  }

  #fresh(hint: string): string {
    let name: string;
    do {
      name = `${hint}_${this.#counter++}`;
    } while (this.#names.has(name));
    this.#names.add(name);
    return name;
  }
}
