import { imageUploaded } from '@tuneloop/contracts/ingest/events';
import type { EventData } from '@tuneloop/contracts/event';
import { newId } from '@tuneloop/runtime/ids';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { ResponsesContext } from '../context.ts';
import { seedOf } from '../domain/hashes.ts';
import { pictureFacts, pictureValues, type PictureWords, renderTemplate } from '../domain/template.ts';
import { requestCandidates } from '../prompts.ts';
import { lockFor } from '../store/prompts.ts';
import { isTombstoned } from '../store/responses.ts';
import { templateFor } from '../store/promptTemplates.ts';

type UploadedImage = EventData<typeof imageUploaded>;

/**
 * Writes a picture's prompt and asks for candidates. Whether answers are wanted is in the event: the upload's own wish,
 * else the session's, else the project's.
 */
export function onImageUploaded(wake: () => void) {
  return defineHandler<typeof imageUploaded, ResponsesContext>({
    name: 'on_image_uploaded',
    event: imageUploaded,
    handle: async (tx, event, ctx) => {
      const image = event.data;
      if (!image.generate) return;
      // An erasure of the same picture comes wholly before or wholly after.
      await lockFor(tx, `image ${image.image_id}`);
      if (await isTombstoned(tx, 'image', image.image_id)) return;
      const settings = await projectSettings(tx, ctx);
      const template = await templateFor(tx, image.category);
      const words = wordsOf(image);
      const values = pictureValues(words);
      const text = renderTemplate(template.body, values);
      await requestCandidates(tx, settings, {
        id: newId(),
        image_id: image.image_id,
        session_id: image.session_id,
        user_id: image.user_id,
        category: image.category,
        brand: textField(image.metadata.brand),
        task: textField(image.metadata.task),
        slot: 'default',
        text,
        system: template.system === null ? null : renderTemplate(template.system, values),
        facts: pictureFacts(words),
        group_key: image.cluster_id,
        template_category: template.category,
        template_version: template.version,
        candidates: settings.candidates,
        seed: seedOf(image.sha256, text),
        correlation_id: event.correlationId,
        causation_id: event.id,
      });
      tx.afterCommit(wake);
    },
  });
}

function wordsOf(image: UploadedImage): PictureWords {
  return {
    category: image.category,
    altText: image.alt_text,
    quality: image.quality,
    width: image.facts.width,
    height: image.facts.height,
    context: textField(image.metadata.context),
    words: image.facts.words,
  };
}

const MAX_FIELD_CHARS = 200;

function textField(value: unknown): string | null {
  return typeof value === 'string' ? value.slice(0, MAX_FIELD_CHARS) : null;
}
