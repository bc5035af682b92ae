import { AxeBuilder } from '@axe-core/playwright';
import { getResponse } from '@tuneloop/contracts/responses/http';
import { eventually } from '@tuneloop/testkit/eventually';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { launchBrowser, NO_BROWSER } from './browser.ts';
import { type ConsoleUnderTest, type ProjectUnderTest, startConsole } from './consoleUnderTest.ts';

/** The first run on a machine may have to install the browser. */
const START_TIMEOUT_MS = 300_000;
const WCAG_AA = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 } as const;

if (NO_BROWSER) process.stderr.write('TUNELOOP_NO_BROWSER=1: the console is not tested in a browser\n');

/** The item on the screen, once it takes answers. */
async function shown(page: Page, other?: string): Promise<string> {
  const question = page.locator(`main[data-item]${other === undefined ? '' : `:not([data-item="${other}"])`}`);
  await page.locator(`main[data-item][aria-busy="false"]`).and(question).waitFor();
  return (await question.getAttribute('data-item')) ?? '';
}

/** Until colours and places have come to rest. */
const atRest = (page: Page) =>
  page.waitForFunction(() => document.getAnimations().every((animation) => animation.playState !== 'running'));

const values = async (project: ProjectUnderTest) => (await project.said()).map(({ value }) => value);

describe.skipIf(NO_BROWSER)('the review page', () => {
  let system: ConsoleUnderTest;
  let browser: Browser;
  let context: BrowserContext;
  /** What the browser complained of; anything here fails the test that caused it. */
  let complaints: string[] = [];

  beforeAll(async () => {
    [browser, system] = await Promise.all([launchBrowser(), startConsole()]);
    process.stdout.write(`screenshots: ${system.shots}\n`);
  }, START_TIMEOUT_MS);
  afterEach(async () => {
    await context?.close();
    const told = complaints;
    complaints = [];
    if (told.length > 0) throw new Error(`the browser complained: ${told.join('; ')}`);
  });
  afterAll(async () => {
    await browser?.close();
    await system?.stop();
  });

  async function open(path: string, options: BrowserContextOptions = {}): Promise<Page> {
    context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(40_000);
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      // A request that fails on purpose is written to the console as well.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
        complaints.push(message.text());
      }
    });
    await page.goto(`${system.url}${path}`);
    return page;
  }

  async function press(page: Page, key: string, from: string): Promise<string> {
    await page.keyboard.press(key);
    return shown(page, from);
  }

  async function shot(page: Page, name: string): Promise<void> {
    await atRest(page);
    await page.screenshot({ path: `${system.shots}/${name}.png` });
  }

  async function accessible(page: Page): Promise<void> {
    await atRest(page);
    const { violations } = await new AxeBuilder({ page }).withTags(WCAG_AA).analyze();
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`)).toEqual([]);
  }

  it('asks for a key, and shows the first question to whoever has one', async () => {
    const project = await system.project(1);
    const page = await open('/review');
    await page.getByRole('heading', { name: 'Welcome' }).waitFor();
    await accessible(page);
    await shot(page, 'sign-in');
    await page.getByLabel('Key', { exact: true }).fill('tl_abcdefgh_nonsense');
    await page.keyboard.press('Enter');
    await page.getByText('This key was not accepted.').waitFor();
    await accessible(page);
    await page.getByLabel('Key', { exact: true }).fill(project.key);
    await page.getByRole('button', { name: 'Go on' }).click();
    await shown(page);
    await page.reload();
    await shown(page);
    expect(
      await page.evaluate(() =>
        Object.keys(localStorage)
          .map((name) => localStorage.getItem(name))
          .join(),
      ),
    ).not.toContain(project.key.slice(12));
  });

  it('takes an invitation link, and every answer by its key', async () => {
    const project = await system.project(8);
    const page = await open(`/review#key=${project.key}`);
    const first = await shown(page);
    expect(page.url()).toBe(`${system.url}/review`);
    expect(await page.evaluate(() => history.length)).toBe(2);
    const picture = page.getByRole('figure').getByRole('img');
    expect(await picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(100);
    const answerA = await page.locator('[data-side="a"]').innerText();
    await shot(page, 'question-light');

    let item = await press(page, 'ArrowRight', first);
    item = await press(page, 'ArrowLeft', item);
    item = await press(page, 's', item);
    item = await press(page, 'x', item);
    item = await press(page, '?', item);
    const skipped = item;
    item = await press(page, ' ', item);
    item = await press(page, 'ArrowDown', item);
    await eventually(async () =>
      expect(await values(project)).toEqual(['b', 'a', 'tie', 'both_bad', 'cant_tell', 'tie']),
    );
    const [said] = await project.said();
    // What was on the left is A, whoever wrote it.
    expect(answerA).toContain(
      (await project.owner.call(getResponse, { params: { id: said!.response_id } })).response_text,
    );
    expect(said!.user_id).toMatch(/^key:/);

    // Back over the last answer and the skip; then each is asked again and answered anew.
    await page.keyboard.press('u');
    await shown(page, item);
    await page.keyboard.press('u');
    await eventually(async () => expect(await shown(page)).toBe(skipped));
    await eventually(async () => expect(await values(project)).toEqual(['b', 'a', 'tie', 'both_bad', 'cant_tell']));
    item = await press(page, 'ArrowRight', skipped);
    item = await press(page, 'ArrowRight', item);
    await page.keyboard.press('x');
    await page.getByRole('heading', { name: 'That was the last one' }).waitFor();
    await eventually(async () => expect((await values(project)).slice(-3)).toEqual(['b', 'b', 'both_bad']));
    await accessible(page);
    await shot(page, 'all-done');

    // What comes in later is asked without a reload.
    await project.addPrompt(8);
    await page.reload();
    await shown(page);
  });

  it('neither loses nor doubles an answer when the line fails', async () => {
    const project = await system.project(4);
    const page = await open(`/review#key=${project.key}`);
    let item = await shown(page);
    const keys: (string | undefined)[] = [];
    let fate: 'answer lost' | 'request lost' | 'through' = 'answer lost';
    await page.route('**/api/v1/feedback', async (route) => {
      keys.push(route.request().headers()['idempotency-key']);
      if (fate === 'answer lost') await route.fetch();
      if (fate === 'through') await route.continue();
      else await route.abort('connectionreset');
    });
    item = await press(page, 'ArrowLeft', item);
    await page.getByText('One answer is kept on this device').waitFor();
    fate = 'request lost';
    item = await press(page, 'x', item);
    await page.getByText('2 answers are kept on this device').waitFor();
    await shot(page, 'unsent');
    await accessible(page);
    // The page is closed with both unsent, and opened again.
    fate = 'through';
    await page.reload();
    expect(await shown(page)).toBe(item);
    await eventually(async () => expect(await values(project)).toEqual(['a', 'both_bad']));
    await page.getByText('kept on this device').waitFor({ state: 'detached' });
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(keys).size).toBe(2);
    expect(keys.length).toBeGreaterThan(2);
  });

  it('says what went wrong and goes on when told to', async () => {
    const project = await system.project(2);
    const page = await open('/review');
    let broken = true;
    await page.route('**/api/v1/review/next*', (route) =>
      broken ? route.fulfill({ status: 404, body: '' }) : route.continue(),
    );
    await page.goto(`${system.url}/review#key=${project.key}`);
    await page.getByRole('heading', { name: 'The next question did not load' }).waitFor();
    await accessible(page);
    await page.route('**/content', (route) => route.fulfill({ status: 404, body: '' }), { times: 1 });
    broken = false;
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByText('The picture did not load.').waitFor();
    await shot(page, 'no-picture');
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByRole('figure').getByRole('img').waitFor();
    const item = await shown(page);

    await context.setOffline(true);
    await press(page, 'ArrowLeft', item);
    await page.getByText('kept on this device').waitFor();
    await page.keyboard.press('ArrowRight');
    await page.getByRole('heading', { name: 'You are offline' }).waitFor();
    await context.setOffline(false);
    await page.getByRole('heading', { name: 'That was the last one' }).waitFor();
    await eventually(async () => expect(await values(project)).toEqual(['a', 'b']));
  });

  it.each(['light', 'dark'] as const)('can be used by everyone, %s', async (colorScheme) => {
    const project = await system.project(2);
    const page = await open(`/review#key=${project.key}`, { colorScheme, reducedMotion: 'reduce' });
    const item = await shown(page);
    await accessible(page);
    await shot(page, `question-${colorScheme}`);
    await page.getByRole('button', { name: 'What to look for' }).click();
    await page.getByRole('dialog').waitFor();
    await accessible(page);
    await shot(page, `guideline-${colorScheme}`);
    // Keys answer nothing while a dialog is open.
    await page.keyboard.press('x');
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Settings and keys' }).click();
    await page.getByRole('dialog').waitFor();
    await accessible(page);
    await shot(page, `settings-${colorScheme}`);
    await page.getByRole('switch', { name: 'Answer with keys' }).click();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.keyboard.press('ArrowLeft');
    expect(await shown(page)).toBe(item);
    // By the tabulator alone.
    const first = page.locator('[data-side="a"]');
    await page.getByRole('heading', { name: 'Which answer is better?' }).focus();
    await page.keyboard.press('Tab');
    expect(await first.evaluate((button) => button === document.activeElement)).toBe(true);
    await shot(page, `focus-${colorScheme}`);
    await press(page, 'Enter', item);
    await eventually(async () => expect(await values(project)).toEqual(['a']));
  });

  it('fits a phone, and takes swipes and taps', async () => {
    const project = await system.project(4);
    const page = await open(`/review#key=${project.key}`, { ...PHONE, colorScheme: 'dark' });
    let item = await shown(page);
    await accessible(page);
    await shot(page, 'phone-dark');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(wide).toBe(360);
    for (const button of await page.getByRole('main').getByRole('button').all()) {
      expect((await button.boundingBox())!.height).toBeGreaterThanOrEqual(40);
    }
    await swipe(page, -30);
    expect(await shown(page)).toBe(item);
    await swipe(page, 160);
    item = await shown(page, item);
    await swipe(page, -160);
    item = await shown(page, item);
    await page.locator('[data-side="b"]').tap();
    item = await shown(page, item);
    await page.emulateMedia({ colorScheme: 'light' });
    await shot(page, 'phone-light');
    await page.getByRole('button', { name: 'Both fine' }).tap();
    await page.getByRole('heading', { name: 'That was the last one' }).waitFor();
    await eventually(async () => expect(await values(project)).toEqual(['b', 'a', 'b', 'tie']));
  });

  /** A finger drawn across the first answer. */
  async function swipe(page: Page, dx: number): Promise<void> {
    const box = (await page.locator('[data-side="a"]').boundingBox())!;
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const session = await context.newCDPSession(page);
    const touch = (type: 'touchStart' | 'touchMove' | 'touchEnd', at: number) =>
      session.send('Input.dispatchTouchEvent', { type, touchPoints: type === 'touchEnd' ? [] : [{ x: at, y }] });
    await touch('touchStart', x);
    for (let step = 1; step <= 8; step++) await touch('touchMove', x + (dx * step) / 8);
    if (Math.abs(dx) > 100) {
      await page.locator(`[data-side="${dx < 0 ? 'a' : 'b'}"][data-leaning]`).waitFor();
      await shot(page, `swipe-${dx < 0 ? 'left' : 'right'}`);
    }
    await touch('touchEnd', x + dx);
    await session.detach();
  }
});
