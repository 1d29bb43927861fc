// The page, as somebody uses it who wants to see the one side fall and the other hold: page.mjs ADDRESS CHROMIUM FOLDER.
//
// All is judged by the figures that stand on the page. Pictures of calm, overload and recovery go into FOLDER.

import { strict as assert } from 'node:assert';
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

async function figure(id) {
    const text = await page.locator(`#${id}`).textContent();
    const value = Number(text.replace(/[^\d.]/g, ''));
    assert(/\d/.test(text) && Number.isFinite(value), `#${id} is ${text}`);
    return value;
}

const goodput = async () => ({ bare: await figure('bare-goodput'), shed: await figure('shed-goodput') });

// What the page says, twice a second.
async function watch(seconds) {
    const readings = [];
    for (let n = 0; n < 2 * seconds; n += 1) {
        await sleep(500);
        readings.push(await goodput());
    }
    const of = (side) => readings.map((reading) => reading[side]);
    const [bare, shed] = [of('bare'), of('shed')];
    const seen = { bare: [Math.min(...bare), Math.max(...bare)], shed: [Math.min(...shed), Math.max(...shed)] };
    return seen;
}

function tell(phase, { bare, shed }) {
    console.log(`${phase.padEnd(10)} goodput without ${bare.join('–')} %, with LoadShed ${shed.join('–')} %`);
}

async function pictures(phase) {
    for (const { name, page } of [laptop, phone]) {
        await page.screenshot({ path: `${folder}/${phase}-${name}.png`, fullPage: name === 'phone' });
    }
}

// The window of the figures, and the start.
await sleep(3_000);
const calm = await watch(6);
tell('calm', calm);
assert(calm.bare[0] > 50 && calm.shed[0] > 50, 'calm: 70 % is asked, and both serve it');
await pictures('calm');

await page.getByRole('button', { name: '10 ×' }).click();
// To learn what the server carries takes a while: the first seconds are not judged, only shown.
tell('onset', await watch(6));
const overload = await watch(12);
tell('overload', overload);
await pictures('overload');
assert(overload.bare[1] < 20, 'overload: the unprotected side is down');
assert(overload.shed[0] > 90, 'overload: the protected side holds');
assert.equal(await page.locator('#load-value').textContent(), '10 ×');

await page.getByRole('button', { name: 'Calm' }).click();
await sleep(4_000);
const after = await watch(12);
tell('recovery', after);
await pictures('recovery');
assert(after.bare[1] < 20, 'recovery: the unprotected side stays down');
assert(after.shed[0] > 60, 'recovery: the protected side serves what is asked');

// Each switch arrives, also on a page that did not touch it.
for (const name of ['Slow dependency', 'Capacity drop', 'Callers retry', 'Dry run']) {
    const [here, there] = [page, phone.page].map((page) => page.getByRole('switch', { name }));
    const was = await here.isChecked();
    await page.locator('label', { has: here }).click();
    await sleep(2_000);
    assert.equal(await here.isChecked(), !was, name);
    assert.equal(await there.isChecked(), !was, `${name}, on the other page`);
}
assert.match(await page.locator('#shed-state').textContent(), /dry run/);

// By the keyboard, too.
await page.locator('#load').press('End');
await sleep(2_000);
assert.equal(await phone.page.locator('#load-value').textContent(), '20 ×');

const wide = await phone.page.evaluate(() => document.documentElement.scrollWidth);
assert.equal(wide, 390, 'nothing sticks out on a phone');
assert.deepEqual(complaints, []);
assert.deepEqual(elsewhere, [], 'no request leaves this machine');
await browser.close();
console.log(`pictures are in ${folder}`);
