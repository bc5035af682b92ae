import { NOUNS, type Category } from './world.ts';

/**
 * Silhouettes on a 100 by 100 field, one family per category, varied by the noun's place in it. Each one
 * covers the square from 33 to 67 with the object's colour: that is where a picture's facts read it.
 */
type Draw = (k: number) => string;

const ellipse = (cx: number, cy: number, rx: number, ry: number, style = ''): string =>
  `<ellipse cx="${cx}" cy="${cy}" rx="${rx}" ry="${ry}"${style}/>`;
const box = (x: number, y: number, width: number, height: number, round = 3, style = ''): string =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="${round}"${style}/>`;
const polygon = (points: readonly (readonly [number, number])[]): string =>
  `<polygon points="${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}"/>`;
const hollow = (path: string, width: number): string =>
  `<path d="${path}" fill="none" stroke="inherit" stroke-width="${width}"/>`;
const DARK = ' fill="#333333"';

function star(points: number, inner: number): string {
  return polygon(
    Array.from({ length: points * 2 }, (_, i) => {
      const radius = i % 2 === 0 ? 50 : inner;
      const angle = (Math.PI * i) / points - Math.PI / 2;
      return [50 + radius * Math.cos(angle), 50 + radius * Math.sin(angle)] as const;
    }),
  );
}

const FAMILIES: Record<Category, Draw> = {
  fashion: (k) =>
    polygon([
      [30, 8],
      [42, 14 + k],
      [58, 14 + k],
      [70, 8],
      [98 - 2 * k, 30 + 2 * k],
      [84 - k, 44],
      [72, 36],
      [72 + k, 94],
      [28 - k, 94],
      [28, 36],
      [16 + k, 44],
      [2 + 2 * k, 30 + 2 * k],
    ]),
  kitchen: (k) =>
    hollow(`M ${74 - k} 38 C ${102 - k} 34, ${102 - k} 74, ${70 - k} 70`, 6) +
    `<path d="M ${20 + k} ${20 + 2 * k} L ${80 - k} ${20 + 2 * k} L ${74 - k / 2} 84 Q 50 ${90 + k} ${26 + k / 2} 84 Z"/>` +
    (k % 2 === 1 ? box(44, 10 + 2 * k, 12, 8) : ''),
  furniture: (k) =>
    box(22, 56, 9, 42, 2) +
    box(69, 56, 9, 42, 2) +
    box(12 + k, 4 + 3 * k, 76 - 2 * k, 34, 4 + k) +
    box(8 + k, 30, 84 - 2 * k, 40, 3 + k),
  fruit: (k) =>
    `<path d="M 50 14 Q 56 0 ${70 + k} 4 Q ${66 + k} 16 50 16 Z" fill="#4f7d3a"/>` +
    ellipse(50 - (k % 3) * 4, 52, 44 - 2 * k, 34 + 2 * k) +
    ellipse(50 + (k % 3) * 4, 58, 40 - 2 * k, 36, ' stroke="none"'),
  animals: (k) =>
    box(26, 66, 9, 30, 3) +
    box(62, 66, 9, 30, 3) +
    polygon([
      [66, 24],
      [70, 2 + 2 * k],
      [80, 20],
    ]) +
    ellipse(46, 52, 40 - k, 25 + k) +
    ellipse(78, 30, 18, 16) +
    hollow(`M 8 48 Q ${-4 + 2 * k} ${20 + 4 * k} 16 ${12 + 4 * k}`, 5) +
    ellipse(83, 27, 2.6, 2.6, DARK),
  vehicles: (k) =>
    box(24 + k, 13 + k, 54 - 2 * k, 40, 8) +
    box(4, 34, 92, 38, 4 + k) +
    box(30 + k, 17 + k, 40 - 2 * k, 9, 3, ' fill="#dfeaf2"') +
    ellipse(26 + k, 76, 12, 12, DARK) +
    ellipse(76 - k, 76, 12, 12, DARK),
  toys: (k) => star(4 + k, 34 + (k % 4)),
  tools: (k) => box(42, 40, 16, 58, 5) + box(8 + 2 * k, 22 + k, 84 - 4 * k, 48 - k, 4 + k),
  music: (k) =>
    box(45, 0, 10, 50, 2) +
    box(38, 0, 24, 8 + k, 3) +
    ellipse(50, 44, 24 + k, 20) +
    ellipse(50, 68, 32 + k, 29) +
    box(34, 33, 32, 35, 4, ' stroke="none"'),
  garden: (k) =>
    box(46, 60, 8, 40, 2, ' fill="#4f7d3a"') +
    Array.from({ length: 5 + (k % 4) }, (_, i) => {
      const angle = (2 * Math.PI * i) / (5 + (k % 4)) - Math.PI / 2;
      return ellipse(50 + 26 * Math.cos(angle), 46 + 26 * Math.sin(angle), 19 + k / 2, 19 + k / 2);
    }).join('') +
    ellipse(50, 46, 27, 27) +
    box(33, 33, 34, 34, 9, ' stroke="none"'),
};

/** SVG elements of a noun's silhouette; fill and stroke are inherited. */
export function silhouette(noun: string, category: string): string {
  const family = category as Category;
  const nouns: readonly string[] = NOUNS[family] ?? [];
  const index = nouns.indexOf(noun);
  if (index < 0) throw new RangeError(`no silhouette for "${noun}" in category "${category}"`);
  return FAMILIES[family](index);
}
