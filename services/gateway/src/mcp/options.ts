import type { Client } from '@tuneloop/client/client';

export interface McpOptions {
  /** Calls the product as whoever connected. */
  readonly client: Client;
  readonly version: string;
  /** Folders whose files may be read, on stdio only; absent over HTTP, where a path would be the server's own. */
  readonly roots?: readonly string[];
}
