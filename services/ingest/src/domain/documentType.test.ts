import { describe, expect, it } from 'vitest';
import { documentType } from './documentType.ts';

const text = (content: string, name = 'x', declared?: string, sniffed?: string) =>
  documentType({ bytes: Buffer.from(content), name, declared, sniffed });

describe('documentType', () => {
  it.each([
    ['the beginning', text('\n <!-- a --><!DOCTYPE HTML><html>', 'a.txt'), 'text/html'],
    [
      'an XML declaration before it',
      text('<?xml version="1.0"?><html lang="en">', 'a', undefined, 'application/xml'),
      'text/html',
    ],
    ['the ending', text('words', 'a.MD', 'text/plain'), 'text/markdown'],
    ['the declared type', text('words', 'a', 'text/markdown; charset=utf-8'), 'text/markdown'],
    ['nothing', text('words'), 'text/plain'],
    ['a declared type that it is not', text('words', 'a', 'application/pdf'), 'text/plain'],
    ['an ending of an object’s own', text('words', 'a.constructor'), 'text/plain'],
    [
      'the signature',
      documentType({ bytes: Buffer.from('%PDF'), name: 'a.txt', declared: undefined, sniffed: 'application/pdf' }),
      'application/pdf',
    ],
  ])('goes by %s', (_case, type, expected) => expect(type).toBe(expected));

  it.each([
    ['a picture', text('x', 'a.txt', 'text/plain', 'image/png')],
    ['a program', text('x', 'a.md', undefined, 'application/x-elf')],
    ['XML that is no page', text('<?xml version="1.0"?><feed/>', 'a.xml', undefined, 'application/xml')],
    ['a NUL', text('a\0b', 'a.txt')],
    [
      'bytes that are not UTF-8',
      documentType({ bytes: Uint8Array.of(0xc3, 0x28), name: 'a.txt', declared: undefined, sniffed: undefined }),
    ],
  ])('takes no %s', (_case, type) => expect(type).toBeUndefined());
});
