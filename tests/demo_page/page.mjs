// Uses the page as a visitor does, and checks that one side goes down and the other holds: page.mjs ADDRESS CHROMIUM FOLDER.
//
// All checks read the numbers on the page. Pictures of normal load, overload and recovery are written to FOLDER.

import { strict as assert } from 'node:assert';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const [address, executablePath, folder] = process.argv.slice(2);
const browser = await chromium.launch({
    executablePath,
    args: [
        '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync',
    ],
});

const complaints = [];
const elsewhere = [];

async function open(name, options) {
    const page = await (await browser.newContext(options)).newPage();
    page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) complaints.push(`${name}: ${message.text()}`);
    });
    page.on('pageerror', (error) => complaints.push(`${name}: ${error}`));
    page.on('requestfailed', (request) => complaints.push(`${name}: ${request.url()} failed`));
    page.on('response', (response) => {
        if (!response.ok()) complaints.push(`${name}: ${response.url()} is a ${response.status()}`);
    });
    page.on('request', (request) => {
        const url = new URL(request.url());
        if (url.hostname !== '127.0.0.1' && url.protocol !== 'data:') elsewhere.push(request.url());
    });
    await page.goto(address);
    return { name, page };
}

const laptop = await open('laptop', { viewport: { width: 1280, height: 860 }, colorScheme: 'light' });
const phone = await open('phone', {
    viewport: { width: 390, height: 844 }, colorScheme: 'dark', deviceScaleFactor: 2, isMobile: true, hasTouch: true,
});
const { page } = laptop;

async function readNumber(id) {
    const text = await page.locator(`#${id}`).textContent();
    const value = Number(text.replace(/[^\d.]/g, ''));
    assert(/\d/.test(text) && Number.isFinite(value), `#${id} is ${text}`);
    return value;
}

// Reads the page twice a second, for so many seconds.
//
// How much each side serves depends on how busy this machine is: the callers share it with the services and the browser. That one
// side is down and the other is not, in the median of the readings, does not. `cargo bench --bench overload` measures how much.
async function watch(phase, seconds) {
    const readings = [];
    for (let n = 0; n < 2 * seconds; n += 1) {
        await sleep(500);
        readings.push({ bare: await readNumber('bare-goodput'), shed: await readNumber('shed-goodput'), late: await readNumber('lateness') });
    }
    const median = (name) => readings.map((reading) => reading[name]).sort((a, b) => a - b)[seconds];
    const all = readings.map(({ bare, shed, late }) => `${bare} % ${shed} % ${late} ms`).join(', ');
    const found = { bare: median('bare'), shed: median('shed'), late: median('late'), all };
    console.log(`${phase.padEnd(10)} goodput without ${found.bare} %, with LoadShed ${found.shed} %, callers late by ${found.late} ms, in the median`);
    return found;
}

async function pictures(phase) {
    for (const { name, page } of [laptop, phone]) {
        await page.screenshot({ path: `${folder}/${phase}-${name}.png` });
    }
}

// The picture in the README: `cp target/demo/demo.webp docs`.
async function readmePicture() {
    const session = await page.context().newCDPSession(page);
    const { bottom } = await page.locator('#charts').evaluate((charts) => charts.getBoundingClientRect());
    const clip = { x: 0, y: 0, width: 1280, height: Math.ceil(bottom) + 12, scale: 1 };
    const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 85, clip });
    await writeFile(`${folder}/demo.webp`, data, 'base64');
}

// The start, and the window over which the page averages.
await sleep(3_000);
const normal = await watch('normal', 6);
assert(normal.bare > 45 && normal.shed > 45, `normal: both sides serve the offered 60 %: ${normal.all}`);
await pictures('normal');

await page.getByRole('button', { name: '10 ×' }).click();
// The layer learns the capacity in the first seconds: these are printed, not checked.
await watch('onset', 6);
const overload = await watch('overload', 12);
await pictures('overload');
assert(overload.bare < 20, `overload: the unprotected side is down: ${overload.all}`);
assert(overload.shed > 50, `overload: the protected side holds: ${overload.all}`);
assert.equal(await page.locator('#load-value').textContent(), '10 ×');

await page.getByRole('button', { name: 'Normal' }).click();
await sleep(4_000);
const after = await watch('recovery', 12);
await pictures('recovery');
await readmePicture();
assert(after.bare < 20, `recovery: the unprotected side stays down: ${after.all}`);
assert(after.shed > 50, `recovery: the protected side serves the offered load: ${after.all}`);

await page.getByRole('button', { name: 'Start over' }).click();
await sleep(5_000);
const again = await watch('start over', 3);
assert(again.bare > 45 && again.shed > 45, `start over: both sides serve the offered load: ${again.all}`);

// An invalid setting changes nothing.
const settings = () => fetch(`${address}/settings`).then((response) => response.json());
const before = await settings();
for (const bad of [{ load: 21, slow: true }, { load: '2' }, { lode: 2 }]) {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${address}/settings`, { method: 'POST', headers, body: JSON.stringify(bad) });
    assert([400, 422].includes(response.status), `${JSON.stringify(bad)}: ${response.status}`);
}
assert.deepEqual(await settings(), before);

// Each switch takes effect, and shows on both pages.
for (const name of ['Slow dependency', 'Capacity drop', 'Callers retry', 'Dry run']) {
    const [here, there] = [page, phone.page].map((page) => page.getByRole('switch', { name }));
    const was = await here.isChecked();
    await page.locator('label', { has: here }).click();
    await sleep(2_000);
    assert.equal(await here.isChecked(), !was, name);
    assert.equal(await there.isChecked(), !was, `${name}, on the other page`);
}
assert.match(await page.locator('#shed-state').textContent(), /dry run/);

// The slider also works by keyboard.
await page.locator('#load').press('End');
await sleep(2_000);
assert.equal(await phone.page.locator('#load-value').textContent(), '20 ×');

await phone.page.locator('#charts').scrollIntoViewIfNeeded();
await phone.page.screenshot({ path: `${folder}/charts-phone.png` });
const wide = await phone.page.evaluate(() => document.documentElement.scrollWidth);
assert.equal(wide, 390, 'nothing sticks out on a phone');
assert.deepEqual(complaints, []);
assert.deepEqual(elsewhere, [], 'no request leaves this machine');
await browser.close();
console.log(`pictures are in ${folder}`);
