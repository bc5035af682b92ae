import { crc32 } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';

/** A picture with shapes in it, different for every seed, the same for the same one. */
export function drawing(seed: number, width = 320, height = 240): Sharp {
  const shade = (n: number) =>
    `rgb(${(seed * 53 + n * 71) % 256},${(seed * 97 + n * 29) % 256},${(seed * 31 + n * 113) % 256})`;
  const shapes = Array.from({ length: 6 }, (_, n) => {
    const x = (seed * 37 + n * 61) % 90;
    const y = (seed * 19 + n * 43) % 90;
    return `<circle cx="${x}%" cy="${y}%" r="${8 + ((seed + n * 5) % 12)}%" fill="${shade(n + 1)}"/>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">
    <rect width="100%" height="100%" fill="${shade(0)}"/>${shapes.join('')}</svg>`;
  return sharp(Buffer.from(svg)).flatten({ background: '#ffffff' });
}

/** A JPEG with a place and a device in its EXIF, lying on its side. */
export function photoWithPlace(seed: number): Promise<Buffer> {
  return drawing(seed)
    .withExif({
      IFD0: { Make: 'Secretcam' },
      IFD3: {
        GPSLatitudeRef: 'N',
        GPSLatitude: '52/1 31/1 12/1',
        GPSLongitudeRef: 'E',
        GPSLongitude: '13/1 24/1 18/1',
      },
    })
    .withMetadata({ orientation: 6 })
    .jpeg({ quality: 90 })
    .toBuffer();
}

/** A small PNG whose header claims more pixels than any memory has. */
export async function pixelBomb(): Promise<Buffer> {
  const png = Buffer.from(await drawing(1, 16, 16).png().toBuffer());
  png.writeUInt32BE(100_000, 16);
  png.writeUInt32BE(90_000, 20);
  png.writeUInt32BE(crc32(png.subarray(12, 29)), 29);
  return png;
}
