import type { JsMsg } from '@nats-io/jetstream';
import { intakeFeedback, intakeImage } from '@tuneloop/contracts/ingest/events';
import { describe, expect, it } from 'vitest';
import { toHeaders } from '../bus/bus.ts';
import { AppError } from '../errors.ts';
import { defineIntake, intakeKey } from './intake.ts';

const PROJECT = '0190f5a2-7b3c-7def-8123-456789abcdef';
const OTHER = '0190f5a2-7b3c-7def-8123-456789abcd00';
const RESPONSE = '0190f5a2-7b3c-7def-8123-000000000001';
const BODY = { id: 'f-1', source: '/kiosk', response_id: RESPONSE, kind: 'stars', value: 4 };

interface Published {
  subject: string;
  body: unknown;
}

function message(subject: string, body: unknown, headers: Record<string, string> = {}): JsMsg {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const parts: Partial<JsMsg> = {
    subject,
    headers: toHeaders(headers),
    string: () => text,
    time: new Date('2026-11-21T09:30:00Z'),
    info: { streamSequence: 7 } as JsMsg['info'],
  };
  return parts as JsMsg;
}

const feedbackSubject = `ext.${PROJECT}.feedback.submitted.v1`;
const feedback = defineIntake<typeof intakeFeedback, { bus: { publishCore(subject: string, body: string): void } }>({
  name: 'intake_feedback',
  kind: 'feedback',
  schema: intakeFeedback,
  handle: async () => undefined,
});

function refusal(body: unknown, subject = feedbackSubject): AppError {
  try {
    feedback.parse(message(subject, body));
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('the message was taken');
}

function answer(body: unknown, error: AppError, headers: Record<string, string> = {}): Published[] {
  const published: Published[] = [];
  const bus = {
    publishCore: (subject: string, text: string) => void published.push({ subject, body: JSON.parse(text) }),
  };
  void feedback.onRejected?.(message(feedbackSubject, body, headers), error, { bus });
  return published;
}

describe('defineIntake', () => {
  it('listens to every project, in the intake stream', () => {
    expect(feedback.stream).toBe('EXT');
    expect(feedback.filter).toBe('ext.*.feedback.submitted.v1');
  });

  it('takes plain JSON, CloudEvents headers and structured CloudEvents as the same item', () => {
    const { id, source, ...data } = BODY;
    const plain = feedback.parse(message(feedbackSubject, BODY));
    const binary = feedback.parse(message(feedbackSubject, data, { 'ce-id': id, 'ce-source': source }));
    const structured = feedback.parse(message(feedbackSubject, { specversion: '1.0', id, source, data }));
    expect(plain.data).toEqual(BODY);
    expect(binary).toEqual(plain);
    expect(structured).toEqual(plain);
  });

  it('takes the project from the subject, whatever headers and body claim', () => {
    const claimed = feedback.parse(
      message(feedbackSubject, { ...BODY, project_id: OTHER }, { 'ce-projectid': OTHER, 'ce-correlationid': OTHER }),
    );
    expect(claimed.projectId).toBe(PROJECT);
    expect(claimed.correlationId).toBeNull();
    expect(claimed.id).toBe(intakeKey(PROJECT, 'feedback', BODY));
  });

  it('keys items by project, kind, source and id, so that nobody can take up the place of another', () => {
    const keys = [
      intakeKey(PROJECT, 'feedback', BODY),
      intakeKey(OTHER, 'feedback', BODY),
      intakeKey(PROJECT, 'image', BODY),
      intakeKey(PROJECT, 'feedback', { ...BODY, source: '/kiosk2' }),
      intakeKey(PROJECT, 'feedback', { ...BODY, id: 'f-2' }),
      intakeKey(PROJECT, 'feedback', { source: '/kioskf', id: '-1' }),
    ];
    expect(new Set(keys).size).toBe(keys.length);
    expect(intakeKey(PROJECT, 'feedback', { ...BODY })).toBe(keys[0]);
  });

  it.each([
    ['not JSON', '{"id": ', 'body'],
    ['empty', '', 'body'],
    ['a list', '[1]', 'body'],
    ['no id', { ...BODY, id: undefined }, 'id'],
    ['a bad uuid', { ...BODY, response_id: 'x' }, 'response_id'],
    ['an unknown kind', { ...BODY, kind: 'applause' }, 'kind'],
    ['a NUL character', { ...BODY, comment: 'a\0b' }, 'comment'],
    ['half a character', '{"id":"1","source":"s","comment":"\\ud800"}', 'comment'],
    ['a prototype key', '{"__proto__": {}}', 'body'],
    ['too deep', `${'['.repeat(200)}${']'.repeat(200)}`, 'body'],
  ])('refuses %s for good, naming the field', (_case, body, field) => {
    const error = refusal(body);
    expect(error).toMatchObject({ retry: false, field });
    expect(error.message).toContain(field);
  });

  it('refuses a subject whose project is not an id', () => {
    expect(refusal(BODY, 'ext.acme.feedback.submitted.v1')).toMatchObject({ field: 'subject', retry: false });
    expect(refusal(BODY, `ext.${PROJECT.toUpperCase()}.feedback.submitted.v1`)).toMatchObject({ field: 'subject' });
  });

  it('answers a refusal under the sender’s own project with id, source, field and reason', () => {
    const body = { ...BODY, kind: 'applause' };
    const error = refusal(body);
    expect(answer(body, error)).toEqual([
      {
        subject: `rejects.${PROJECT}.feedback.v1`,
        body: { id: 'f-1', source: '/kiosk', field: 'kind', reason: error.message, code: 'intake.invalid' },
      },
    ]);
    const [unreadable] = answer('{', refusal('{'), { 'ce-id': 'h-1', 'ce-source': '/header' });
    expect(unreadable?.body).toMatchObject({ id: 'h-1', source: '/header', field: 'body' });
    const withNul = '{"id":"f-2","source":"/kiosk","comment":"a\\u0000b"}';
    expect(answer(withNul, refusal(withNul))[0]?.body).toMatchObject({ id: 'f-2', source: '/kiosk', field: 'comment' });
    expect(answer('5', refusal('5'))[0]?.body).toMatchObject({ id: null, source: null });
  });

  it('keeps one dead letter per item, and one per message that names none', () => {
    const id = (subject: string, body: unknown) => feedback.deadLetterId?.(message(subject, body));
    const bad = { ...BODY, kind: 'applause' };
    expect(id(feedbackSubject, bad)).toBe(id(feedbackSubject, bad));
    expect(id(feedbackSubject, bad)).not.toBe(id(`ext.${OTHER}.feedback.submitted.v1`, bad));
    expect(id(feedbackSubject, '{')).toBe(id(feedbackSubject, '['));
    expect(id(feedbackSubject, '{')).not.toBe(id(feedbackSubject, bad));
  });

  it('accepts each kind’s own schema', () => {
    const images = defineIntake<typeof intakeImage, { bus: { publishCore(): void } }>({
      name: 'intake_image',
      kind: 'image',
      schema: intakeImage,
      handle: async () => undefined,
    });
    const subject = `ext.${PROJECT}.image.submitted.v1`;
    const item = images.parse(message(subject, { id: '1', source: 's', url: 'https://example.com/a.png' }));
    expect(item.data).toMatchObject({ category: 'general', user_id: 'anonymous' });
    expect(() => images.parse(message(subject, { id: '1', source: 's' }))).toThrow(/url.*exactly one/);
  });
});
