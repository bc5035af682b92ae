/** A suffix, what replaces it, and the least measure of the stem that is left. */
type Rule = readonly [suffix: string, replacement: string, measureAbove: number];

const IRREGULAR: ReadonlyMap<string, string> = new Map([
  ['sky', 'sky'],
  ['skies', 'sky'],
  ['dying', 'die'],
  ['lying', 'lie'],
  ['tying', 'tie'],
  ['news', 'news'],
  ['innings', 'inning'],
  ['inning', 'inning'],
  ['outings', 'outing'],
  ['outing', 'outing'],
  ['cannings', 'canning'],
  ['canning', 'canning'],
  ['howe', 'howe'],
  ['proceed', 'proceed'],
  ['exceed', 'exceed'],
  ['succeed', 'succeed'],
]);

const STEP_2: readonly Rule[] = [
  ['ational', 'ate', 0],
  ['tional', 'tion', 0],
  ['enci', 'ence', 0],
  ['anci', 'ance', 0],
  ['izer', 'ize', 0],
  ['bli', 'ble', 0],
  ['alli', 'al', 0],
  ['entli', 'ent', 0],
  ['eli', 'e', 0],
  ['ousli', 'ous', 0],
  ['ization', 'ize', 0],
  ['ation', 'ate', 0],
  ['ator', 'ate', 0],
  ['alism', 'al', 0],
  ['iveness', 'ive', 0],
  ['fulness', 'ful', 0],
  ['ousness', 'ous', 0],
  ['aliti', 'al', 0],
  ['iviti', 'ive', 0],
  ['biliti', 'ble', 0],
  ['fulli', 'ful', 0],
];

const STEP_3: readonly Rule[] = [
  ['icate', 'ic', 0],
  ['ative', '', 0],
  ['alize', 'al', 0],
  ['iciti', 'ic', 0],
  ['ical', 'ic', 0],
  ['ful', '', 0],
  ['ness', '', 0],
];

const STEP_4_SUFFIXES = 'al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize'.split(' ');

/**
 * Porter's stemmer (1980) with the departures of NLTK's default mode, which rouge-score stems with: a table of
 * irregular forms, short words in -ies and -ied keep their e, y becomes i only after a consonant, -alli is taken
 * twice, -fulli and -logi are known.
 *
 * @param word lower case
 */
export function porterStem(word: string): string {
  const irregular = IRREGULAR.get(word);
  if (irregular !== undefined) return irregular;
  if (word.length <= 2) return word;
  const inflected = step1c(step1b(step1a(word)));
  return step5(step4(applyRules(step2(inflected), STEP_3)));
}

function step1a(word: string): string {
  if (word.endsWith('ies')) return word.length === 4 ? word.slice(0, -1) : word.slice(0, -2);
  if (word.endsWith('sses')) return word.slice(0, -2);
  if (word.endsWith('ss')) return word;
  return word.endsWith('s') ? word.slice(0, -1) : word;
}

function step1b(word: string): string {
  if (word.endsWith('ied')) return word.length === 4 ? word.slice(0, -1) : word.slice(0, -2);
  if (word.endsWith('eed')) return measure(word.slice(0, -3)) > 0 ? word.slice(0, -1) : word;
  const suffix = ['ed', 'ing'].find((ending) => word.endsWith(ending) && hasVowel(word.slice(0, -ending.length)));
  if (suffix === undefined) return word;
  const stem = word.slice(0, -suffix.length);
  if (/(?:at|bl|iz)$/u.test(stem)) return `${stem}e`;
  if (endsInDoubleConsonant(stem)) return /[lsz]$/u.test(stem) ? stem : stem.slice(0, -1);
  return measure(stem) === 1 && endsInShortSyllable(stem) ? `${stem}e` : stem;
}

function step1c(word: string): string {
  const stem = word.slice(0, -1);
  return word.endsWith('y') && stem.length > 1 && consonants(stem).at(-1) === true ? `${stem}i` : word;
}

function step2(word: string): string {
  if (word.endsWith('alli') && measure(word.slice(0, -4)) > 0) return step2(word.slice(0, -2));
  const rule = STEP_2.find(([suffix]) => word.endsWith(suffix));
  if (rule !== undefined) return applyRules(word, [rule]);
  // Here the measure is taken with the l of -logi still on the stem.
  return word.endsWith('logi') && measure(word.slice(0, -3)) > 0 ? word.slice(0, -1) : word;
}

function step4(word: string): string {
  const suffix = STEP_4_SUFFIXES.find((ending) => word.endsWith(ending));
  if (suffix === undefined) return word;
  const stem = word.slice(0, -suffix.length);
  return measure(stem) > 1 && (suffix !== 'ion' || /[st]$/u.test(stem)) ? stem : word;
}

function step5(word: string): string {
  let result = word;
  if (word.endsWith('e')) {
    const stem = word.slice(0, -1);
    const m = measure(stem);
    if (m > 1 || (m === 1 && !endsInShortSyllable(stem))) result = stem;
  }
  return result.endsWith('ll') && measure(result.slice(0, -1)) > 1 ? result.slice(0, -1) : result;
}

/** Applies the first rule whose suffix fits; a stem too short for that rule ends the search. */
function applyRules(word: string, rules: readonly Rule[]): string {
  for (const [suffix, replacement, measureAbove] of rules) {
    if (!word.endsWith(suffix)) continue;
    const stem = word.slice(0, word.length - suffix.length);
    return measure(stem) > measureAbove ? stem + replacement : word;
  }
  return word;
}

/** Per letter, whether it is a consonant; y is one at the start and after a vowel. */
function consonants(word: string): boolean[] {
  const flags: boolean[] = [];
  for (const letter of word) {
    if (letter === 'y') flags.push(flags.at(-1) !== true);
    else flags.push(!'aeiou'.includes(letter));
  }
  return flags;
}

/** m: how many times a vowel run is followed by a consonant run. */
function measure(stem: string): number {
  const flags = consonants(stem);
  return flags.filter((isConsonant, i) => isConsonant && i > 0 && flags[i - 1] === false).length;
}

function hasVowel(stem: string): boolean {
  return consonants(stem).includes(false);
}

function endsInDoubleConsonant(word: string): boolean {
  return word.length >= 2 && word.at(-1) === word.at(-2) && consonants(word).at(-1) === true;
}

function endsInShortSyllable(word: string): boolean {
  const flags = consonants(word);
  if (word.length === 2) return !flags[0]! && flags[1]!;
  return word.length >= 3 && flags.at(-3)! && !flags.at(-2)! && flags.at(-1)! && !/[wxy]$/u.test(word);
}
