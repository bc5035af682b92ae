import type { z } from 'zod';

/** A value as JSON columns hold it. */
export type Json = z.core.util.JSONType;
