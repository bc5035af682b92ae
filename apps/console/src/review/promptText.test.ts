import { describe, expect, it } from 'vitest';
import { readPrompt } from './promptText.ts';

describe('readPrompt', () => {
  it.each([
    [
      'Item: mug\nColour: dark red',
      [
        ['Item', 'mug'],
        ['Colour', 'dark red'],
      ],
      '',
    ],
    [
      'Item: mug\r\nSize: big\r\n\r\nDescribe this image.',
      [
        ['Item', 'mug'],
        ['Size', 'big'],
      ],
      'Describe this image.',
    ],
    ['  Why is the sky blue?  ', [], 'Why is the sky blue?'],
    ['Note: answer briefly.\nWhy?', [], 'Note: answer briefly.\nWhy?'],
    ['line one\nline two', [], 'line one\nline two'],
    ['', [], ''],
  ])('reads %j', (prompt, facts, text) => {
    expect(readPrompt(prompt)).toEqual({ facts: facts.map(([label, value]) => ({ label, value })), text });
  });
});
