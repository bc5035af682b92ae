/**
 * Words by which a text tries to steer the model that reads it. A first list: each entry is a way of attack, named in
 * the chunk's `flags`. A flagged chunk is kept and shown, and never becomes an example.
 */
const PATTERNS: readonly (readonly [flag: string, pattern: RegExp])[] = [
  [
    'override_instructions',
    /\b(?:ignore|disregard|forget|override|bypass|do not (?:follow|obey))\b.{0,40}\b(?:previous|prior|above|earlier|preceding|all|any|your|system|these|those)\b.{0,30}\b(?:instructions?|prompts?|rules?|guidelines?|directions?|context|messages?)\b/,
  ],
  [
    'new_instructions',
    /\b(?:new|updated|real|actual|hidden) (?:system )?(?:instructions?|prompt|directives?)\s*(?::|are\b|follow)/,
  ],
  [
    'reveal_prompt',
    /\b(?:reveal|print|repeat|show|output|leak|disclose|tell me|write out)\b.{0,30}\b(?:your|the|full|hidden|initial)\b.{0,20}\b(?:system prompt|system message|instructions|initial prompt|hidden prompt)\b/,
  ],
  [
    'assume_role',
    /\b(?:you are now|from now on,? you|act as|pretend (?:to be|you are)|roleplay as)\b.{0,60}\b(?:dan\b|jailbr|unrestricted|uncensored|without (?:any )?(?:rules|restrictions|limits|filters)|developer mode|evil|admin|root)/,
  ],
  [
    'fake_role',
    /<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[\/?inst\]|<<\/?sys>>|^\s*#{0,3}\s*(?:system|assistant)\s*(?:prompt|message)?\s*:\s*\S/m,
  ],
  [
    'hide_from_user',
    /\b(?:do not|don't|never|without) (?:tell|mention|inform|reveal|disclos|notify|let)\w*\b.{0,30}\b(?:the )?(?:user|human|reader|reviewer|anyone)\b/,
  ],
  [
    'steer_judge',
    /\b(?:rate|score|grade|rank|mark|evaluate)\b.{0,40}\b(?:this|the|my)\b.{0,30}\b(?:highest|perfect|maximum|full (?:marks|score)|5 (?:out of|\/) 5|10 (?:out of|\/) 10)\b/,
  ],
  ['exfiltrate', /!\[[^\]]{0,200}\]\(https?:\/\/[^)\s]{0,300}[?&][^)\s]{0,100}(?:\{|%7b|data=|q=|secret|token|prompt)/],
  [
    'exfiltrate',
    /\b(?:send|post|forward|upload|email|transmit)\b.{0,40}\b(?:api[ _-]?keys?|passwords?|credentials|secrets?|conversation|chat history|user data)\b.{0,40}\b(?:to|at)\b/,
  ],
];
/** Characters that nobody sees: tags, bidirectional overrides, long runs of zero width. */
const INVISIBLE = /[\u{E0000}-\u{E007F}]|[\u202A-\u202E\u2066-\u2069]|[\u200B-\u200D\u2060\uFEFF]{4,}/u;
const UNSEEN = /[\u00AD\u200B-\u200F\u2060-\u2064\uFEFF\u{E0000}-\u{E007F}]/gu;

/** Names of the ways in which a text tries to steer its reader; none for most texts. */
export function injectionFlags(text: string): string[] {
  const flags = new Set<string>();
  if (INVISIBLE.test(text)) flags.add('invisible_text');
  const plain = text.replace(UNSEEN, '').normalize('NFKC').toLowerCase();
  const joined = plain.replace(/\s+/g, ' ');
  for (const [flag, pattern] of PATTERNS) {
    if (pattern.test(joined) || pattern.test(plain)) flags.add(flag);
  }
  return [...flags];
}
