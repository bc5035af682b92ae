import sharp, { type Sharp } from 'sharp';

/** A small picture with a shape in it, different for each seed. */
export function picture(seed: number, side = 96): Sharp {
  const colour = (n: number) => `rgb(${(seed * 53 + n * 71) % 256},${(seed * 97 + n * 29) % 256},${(n * 113) % 256})`;
  const at = 20 + ((seed * 37) % 60);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}">
    <rect width="100%" height="100%" fill="${colour(0)}"/>
    <circle cx="${at}%" cy="${100 - at}%" r="${10 + (seed % 20)}%" fill="${colour(1)}"/></svg>`;
  return sharp(Buffer.from(svg)).flatten({ background: '#ffffff' });
}

export const jpeg = (seed: number): Promise<Buffer> => picture(seed).jpeg().toBuffer();
export const png = (seed: number): Promise<Buffer> => picture(seed).png().toBuffer();

/** Of each format that may be uploaded. */
export const FORMATS: Readonly<Record<string, (seed: number) => Promise<Buffer>>> = {
  'image/jpeg': jpeg,
  'image/png': png,
  'image/webp': (seed) => picture(seed).webp().toBuffer(),
  'image/gif': (seed) => picture(seed).gif().toBuffer(),
  'image/avif': (seed) => picture(seed).avif().toBuffer(),
};

export function file(bytes: Uint8Array, name: string, type = 'application/octet-stream'): File {
  return new File([new Uint8Array(bytes)], name, { type });
}

/** A form as the scraper clients send it. */
export function form(fields: Readonly<Record<string, string | File>>): FormData {
  const made = new FormData();
  for (const [name, value] of Object.entries(fields)) made.set(name, value);
  return made;
}
