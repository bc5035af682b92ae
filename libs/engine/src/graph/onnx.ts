/**
 * Writes ONNX ModelProto bytes (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Only the messages that the
 * graph builder needs are spelled out; field numbers stand beside the names they have there.
 */
import protobuf from 'protobufjs/minimal.js';

export type ElementType = 'float32' | 'int64' | 'int32' | 'uint8' | 'uint16' | 'bool';
/** A size, or the name of a size that is known only when the graph runs. */
export type Dim = number | string;
export type Attribute =
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'string'; readonly value: string };

export interface OnnxValue {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly Dim[];
}
export interface OnnxNode {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}
export interface OnnxInitializer {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly bytes: Uint8Array;
}
export interface OnnxGraph {
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxInitializer[];
}

export const MICROSOFT_DOMAIN = 'com.microsoft';
/** IR version 10 with opset 21: the newest pair that every onnxruntime since 1.20 reads. */
const IR_VERSION = 10;
const OPSET_VERSION = 21;
const ELEMENT_CODE: Record<ElementType, number> = { float32: 1, uint8: 2, uint16: 4, int32: 6, int64: 7, bool: 9 };

type Writer = protobuf.Writer;
const LENGTH_DELIMITED = 2;
const VARINT = 0;
const FIXED32 = 5;

const tag = (field: number, wire: number): number => (field << 3) | wire;

function message(writer: Writer, field: number, body: (inner: Writer) => void): void {
  writer.uint32(tag(field, LENGTH_DELIMITED)).fork();
  body(writer);
  writer.ldelim();
}

function text(writer: Writer, field: number, value: string): void {
  writer.uint32(tag(field, LENGTH_DELIMITED)).string(value);
}

function integer(writer: Writer, field: number, value: number): void {
  writer.uint32(tag(field, VARINT)).int64(value);
}

function writeAttribute(writer: Writer, name: string, attribute: Attribute): void {
  text(writer, 1, name);
  switch (attribute.kind) {
    case 'float':
      writer.uint32(tag(2, FIXED32)).float(attribute.value); // f
      integer(writer, 20, 1); // type FLOAT
      return;
    case 'int':
      integer(writer, 3, attribute.value); // i
      integer(writer, 20, 2); // type INT
      return;
    case 'string':
      text(writer, 4, attribute.value); // s
      integer(writer, 20, 3); // type STRING
      return;
    case 'ints':
      for (const value of attribute.value) integer(writer, 8, value); // ints
      integer(writer, 20, 7); // type INTS
  }
}

function writeNode(writer: Writer, node: OnnxNode): void {
  for (const name of node.inputs) text(writer, 1, name);
  for (const name of node.outputs) text(writer, 2, name);
  text(writer, 3, node.outputs[0] ?? '');
  text(writer, 4, node.op);
  for (const [name, attribute] of Object.entries(node.attributes)) {
    message(writer, 5, (inner) => writeAttribute(inner, name, attribute));
  }
  if (node.domain !== '') text(writer, 7, node.domain);
}

function writeInitializer(writer: Writer, tensor: OnnxInitializer): void {
  for (const dim of tensor.dims) integer(writer, 1, dim);
  integer(writer, 2, ELEMENT_CODE[tensor.type]);
  text(writer, 8, tensor.name);
  writer.uint32(tag(9, LENGTH_DELIMITED)).bytes(tensor.bytes); // raw_data, little endian
}

function writeValueInfo(writer: Writer, value: OnnxValue): void {
  text(writer, 1, value.name);
  message(writer, 2, (type) =>
    message(type, 1, (tensor) => {
      integer(tensor, 1, ELEMENT_CODE[value.type]);
      message(tensor, 2, (shape) => {
        for (const dim of value.dims) {
          message(shape, 1, (d) => (typeof dim === 'number' ? integer(d, 1, dim) : text(d, 2, dim)));
        }
      });
    }),
  );
}

/** Serialises a graph as an ONNX model that stock onnxruntime loads from bytes. */
export function encodeOnnxModel(graph: OnnxGraph): Uint8Array {
  const writer = protobuf.Writer.create();
  integer(writer, 1, IR_VERSION);
  text(writer, 2, 'tuneloop');
  message(writer, 7, (g) => {
    for (const node of graph.nodes) message(g, 1, (inner) => writeNode(inner, node));
    text(g, 2, 'graph');
    for (const tensor of graph.initializers) message(g, 5, (inner) => writeInitializer(inner, tensor));
    for (const value of graph.inputs) message(g, 11, (inner) => writeValueInfo(inner, value));
    for (const value of graph.outputs) message(g, 12, (inner) => writeValueInfo(inner, value));
  });
  for (const [domain, version] of [
    ['', OPSET_VERSION],
    [MICROSOFT_DOMAIN, 1],
  ] as const) {
    message(writer, 8, (opset) => {
      text(opset, 1, domain);
      integer(opset, 2, version);
    });
  }
  return writer.finish();
}
