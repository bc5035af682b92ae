/** Longest suffix, as OpenAI has it. */
export const MAX_SUFFIX = 64;
const ID_CHARACTERS = 12;

/** A name without `:` and `/`, which separate the parts of a model name and of a URL. */
function slug(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
}

/**
 * `ft:<base>:<project>:<suffix>:<id>`, as OpenAI names fine-tuned models. The id is the random end of the
 * checkpoint's, so the name is unique and never used again.
 */
export function fineTunedModelName(parts: {
  readonly baseModel: string;
  readonly projectSlug: string;
  readonly suffix: string | null;
  readonly checkpointId: string;
}): string {
  const id = parts.checkpointId.replaceAll('-', '').slice(-ID_CHARACTERS);
  return ['ft', slug(parts.baseModel), slug(parts.projectSlug), slug(parts.suffix ?? ''), id].join(':');
}
