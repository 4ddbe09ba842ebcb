// The pool's page in headless Chromium: `page.mjs GIVEN.json`, which holds {url, token, pool, chromium, foreign, screenshots}.
// A line of JSON for each check.
import puppeteer from "puppeteer-core";
import { readFileSync } from "node:fs";

const given = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await puppeteer.launch({ executablePath: given.chromium, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });

async function check(name, body) {
  try {
    const note = await body();
    console.log(JSON.stringify({ check: name, note }));
  } catch (error) {
    console.log(JSON.stringify({ check: name, error: String(error.message ?? error).slice(0, 400) }));
  }
}

function equal(actual, expected) {
  if (actual !== expected) throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
}

async function admin(path, method = "GET", body) {
  const headers = { "x-local-admin": given.token };
  const answer = await fetch(given.url + "/_local" + path, { method, headers, body: body && JSON.stringify(body) });
  return answer.json();
}

async function call(operation, input) {
  const headers = { "x-amz-target": "AWSCognitoIdentityService." + operation, "content-type": "application/x-amz-json-1.1" };
  return fetch(given.url, { method: "POST", headers, body: JSON.stringify(input) });
}

const page = await browser.newPage();
await page.setViewport({ width: 1360, height: 900 });
const problems = [];
page.on("pageerror", (error) => problems.push(String(error)));
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
page.on("dialog", (dialog) => dialog.accept());
const shows = (text, timeout = 10_000) =>
  page.waitForFunction((wanted) => document.body.innerText.includes(wanted), { timeout, polling: 20 }, text);

await check("without the token the page shows nothing", async () => {
  await page.goto(given.url + "/");
  await shows("admin token");
  equal(await page.evaluate(() => document.body.innerText.includes("us-east-1:")), false);
  await page.screenshot({ path: given.screenshots + "/page-locked.png" });
});
await check("the wrong token is told so", async () => {
  await page.type("#token", "guessed");
  await page.keyboard.press("Enter");
  await shows("This is not the token.");
});
await check("the token opens it", async () => {
  problems.length = 0;
  await page.evaluate(() => { document.getElementById("token").value = ""; });
  await page.type("#token", given.token);
  await page.keyboard.press("Enter");
  await shows(given.pool);
  await shows("live");
});
await check("the link that is printed at start opens it, and leaves no token in the address", async () => {
  const other = await browser.newPage();
  await other.goto(`${given.url}/#${given.token}`);
  await other.waitForFunction((pool) => document.body.innerText.includes(pool), { timeout: 10_000 }, given.pool);
  equal(other.url(), given.url + "/");
  await other.close();
});
await check("a refusal is shown with its reason within a second", async () => {
  await call("GetId", { IdentityPoolId: given.pool });
  const start = performance.now();
  await call("GetId", { IdentityPoolId: given.pool, Logins: { "login.mycompany.myapp": "<img src=x onerror=alert(1)>" } });
  await shows("PublicProviderOnly", 1000);
  await shows("is the pool's developer provider", 1000);
  await shows("→ a developer provider's name is no key here", 1000);
  const took = Math.round(performance.now() - start);
  if (took > 1000) throw new Error(`after ${took} ms`);
  return `${took} ms`;
});
await check("identities are listed with their logins", async () => {
  const { provider } = await admin("/providers", "POST", { provider: "graph.facebook.com" });
  const { token } = await admin("/tokens", "POST", { provider, sub: "alice" });
  const { IdentityId } = await (await call("GetId", { IdentityPoolId: given.pool, Logins: { [provider]: token } })).json();
  await call("GetCredentialsForIdentity", { IdentityId, Logins: { [provider]: token } });
  await shows("graph.facebook.com: alice");
  await shows(IdentityId);
});
await check("what a client sends is no markup", async () => {
  const { provider } = await admin("/providers", "POST", { provider: "graph.facebook.com" });
  const { token } = await admin("/tokens", "POST", { provider, sub: "<img src=x onerror=document.title='hit'>" });
  await call("GetId", { IdentityPoolId: given.pool, Logins: { [provider]: token } });
  await shows("<img src=x");
  equal(await page.title(), "Local identity pool");
});
await check("the buttons: fault, clear, clock, throttling", async () => {
  await page.select("#operation", "GetId");
  await page.click("#plan");
  await shows("1 planned");
  equal((await admin("")).faults.pending, 1);
  equal((await call("GetId", { IdentityPoolId: given.pool })).status, 503);
  await shows("fault");
  await page.click("#plan");
  await shows("1 planned");
  await page.click("#clear");
  await page.waitForFunction(() => document.getElementById("faults").textContent === "", { timeout: 5000 });
  await page.click('[data-ahead="3600"]');
  await shows("3600 s ahead");
  equal((await admin("/clock")).ahead_seconds, 3600);
  await page.click("#present");
  await page.waitForFunction(() => !document.getElementById("clock").textContent.includes("ahead"), { timeout: 5000 });
  await page.click("#throttle");
  await shows("Throttling: on");
  equal((await admin("")).throttling, true);
  await page.click("#throttle");
  await shows("Throttling: off");
});
await page.screenshot({ path: given.screenshots + "/page.png", fullPage: true });
await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
await page.setViewport({ width: 480, height: 900 });
await page.screenshot({ path: given.screenshots + "/page-dark-narrow.png" });
await check("the reset button", async () => {
  await page.setViewport({ width: 1360, height: 900 });
  await page.click("#reset");
  await shows("Nothing was asked yet.");
  equal((await admin("/identities")).total, 0);
});
await check("a page of another origin gets nothing, with and without the token", async () => {
  const foreign = await browser.newPage();
  await foreign.goto(given.foreign);
  const got = await foreign.evaluate(async ({ url, token }) => {
    const tried = [];
    for (const headers of [{}, { "x-local-admin": token }]) {
      for (const [path, method] of [["/_local", "GET"], ["/_local/state", "GET"], ["/_local/reset", "POST"], ["/", "GET"]]) {
        try {
          const answer = await fetch(url + path, { method, headers });
          tried.push(`${method} ${path}: ${answer.status}`);
        } catch {
          tried.push("");
        }
      }
    }
    const frame = document.createElement("iframe");
    frame.src = url + "/";
    document.body.append(frame);
    await new Promise((loaded) => { frame.onload = loaded; });
    let framed = "";
    try { framed = frame.contentDocument?.body?.innerText ?? ""; } catch { /* another origin */ }
    return { tried: tried.filter(Boolean), framed };
  }, given);
  equal(JSON.stringify(got), JSON.stringify({ tried: [], framed: "" }));
  await foreign.close();
});
await check("the page has said nothing to the console", async () => {
  const own = problems.filter((text) => !text.includes("403"));
  equal(own.join("; "), "");
});
await browser.close();
