import { z } from 'zod';
import { defineRoute } from '../route.ts';

/** Files as OpenAI's API has them. */
export const MAX_FILE_BYTES = 512 * 1024 * 1024;
const MAX_LISTED = 10_000;
const DEFAULT_LISTED = 1_000;

export const fileObject = z.object({
  id: z.string(),
  object: z.literal('file'),
  bytes: z.number().int(),
  /** Unix seconds. */
  created_at: z.number().int(),
  filename: z.string(),
  purpose: z.string(),
  status: z.literal('processed'),
});

const fileParams = z.object({ file_id: z.string().max(200) });

export const createFile = defineRoute({
  service: 'datasets',
  operationId: 'create_file',
  method: 'POST',
  path: '/v1/files',
  summary: 'Uploads a JSONL file for fine-tuning (multipart: file, purpose=fine-tune), up to 512 MB.',
  scope: 'write',
  consumes: 'multipart/form-data',
  response: fileObject,
  tag: 'openai',
});

export const listFiles = defineRoute({
  service: 'datasets',
  operationId: 'list_files',
  method: 'GET',
  path: '/v1/files',
  summary: 'Files of the project.',
  scope: 'read',
  query: z.object({
    purpose: z.string().max(100).optional(),
    limit: z.coerce.number().int().min(1).max(MAX_LISTED).default(DEFAULT_LISTED),
    after: z.string().max(200).optional(),
    order: z.enum(['asc', 'desc']).default('desc'),
  }),
  response: z.object({
    object: z.literal('list'),
    data: z.array(fileObject),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  }),
  tag: 'openai',
});

export const retrieveFile = defineRoute({
  service: 'datasets',
  operationId: 'retrieve_file',
  method: 'GET',
  path: '/v1/files/{file_id}',
  summary: 'One file.',
  scope: 'read',
  params: fileParams,
  response: fileObject,
  tag: 'openai',
});

export const retrieveFileContent = defineRoute({
  service: 'datasets',
  operationId: 'retrieve_file_content',
  method: 'GET',
  path: '/v1/files/{file_id}/content',
  summary: 'The bytes of a file.',
  scope: 'read',
  params: fileParams,
  response: z.string(),
  produces: 'application/octet-stream',
  tag: 'openai',
});

export const deleteFile = defineRoute({
  service: 'datasets',
  operationId: 'delete_file',
  method: 'DELETE',
  path: '/v1/files/{file_id}',
  summary: 'Deletes a file. Dataset versions made of it stay.',
  scope: 'write',
  params: fileParams,
  response: z.object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) }),
  tag: 'openai',
});
