/** Sizes of the nano base: what its config.json says and what its training script builds. */
export const VOCABULARY = 768;
export const MAX_POSITIONS = 256;
