/** An sRGB colour, each channel 0 to 255. */
export type Rgb = [number, number, number];

export function fromHex(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

export function toHex(rgb: Rgb): string {
  return `#${rgb
    .map((channel) =>
      Math.max(0, Math.min(255, Math.round(channel)))
        .toString(16)
        .padStart(2, '0'),
    )
    .join('')}`;
}

/** CIE L*a*b* (D65) of an sRGB colour, by IEC 61966-2-1 and CIE 15. */
export function toLab(rgb: Rgb): [number, number, number] {
  const [r, g, b] = rgb.map((channel) => {
    const value = Math.max(0, Math.min(1, channel / 255));
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as Rgb;
  const f = (t: number): number => (t > 216 / 24389 ? Math.cbrt(t) : (t * 24389) / 27 / 116 + 16 / 116);
  const x = f((0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047);
  const y = f(0.2126729 * r + 0.7151522 * g + 0.072175 * b);
  const z = f((0.0193339 * r + 0.119192 * g + 0.9503041 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** The palette's name nearest to a colour, by Euclidean distance in Lab (CIE76). */
export function nearestName(rgb: Rgb, palette: Readonly<Record<string, string>>): string {
  const [l, a, b] = toLab(rgb);
  let best = '';
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const [name, hex] of Object.entries(palette)) {
    const [pl, pa, pb] = toLab(fromHex(hex));
    const distance = (l - pl) ** 2 + (a - pa) ** 2 + (b - pb) ** 2;
    if (distance < bestDistance) {
      bestDistance = distance;
      best = name;
    }
  }
  return best;
}
