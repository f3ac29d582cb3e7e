// What the page asks of its server: reads at once, writes one after another until each is answered.

export class Refused extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

// Which review, and which list of photos, the page's numbers are of: another server may answer here by now.
const here = {};

export function showing({ review, list }) {
  Object.assign(here, { review, list });
}

async function ask(path) {
  const headers = here.review ? { "X-Review": here.review, "X-List": here.list } : {};
  const answer = await fetch(path, { headers });
  if (!answer.ok) throw new Refused(await sentence(answer), answer.status);
  return answer;
}

export async function read(path) {
  return (await ask(path)).json();
}

export async function readMask(i) {
  const answer = await ask(`/api/photos/${i}/mask`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const width = Number(answer.headers.get("x-width")), height = Number(answer.headers.get("x-height"));
  const size = width * height;
  return { width, height, version: Number(answer.headers.get("x-version")), data: bytes.slice(0, size), touched: bytes.slice(size) };
}

async function sentence(answer) {
  try {
    return (await answer.json()).detail || answer.statusText;
  } catch {
    return answer.statusText || `error ${answer.status}`;
  }
}

// How often a write is sent again that is answered so: what may pass is waited for, such as a token that the browser lacks,
// another review at this address or a full disk; another fault of the server may last.
function patience(status) {
  if ([401, 412, 503, 507].includes(status)) return Infinity;
  return status >= 500 ? 5 : 0;
}

async function pack(bytes) {
  if (!("CompressionStream" in window)) return [bytes, {}];
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return [await new Response(stream).arrayBuffer(), { "Content-Encoding": "gzip" }];
}

export class Writes {
  // told: called with "saved", "busy", "dropped" or "lost" and why. name, number: of a photo, by the other. conflict, refused:
  // called with the photo's number, and a sentence.
  constructor({ told, name, number, conflict, refused }) {
    Object.assign(this, { told, name, number, conflict, refused });
    this.versions = new Map();
    this.jobs = [];
    this.running = false;
  }

  get pending() {
    return this.jobs.length > 0;
  }

  see(i, version) {
    // A version that was read; while writes of that photo are on their way theirs will be newer.
    if (!this.jobs.some((job) => job.i === i)) this.versions.set(i, version);
  }

  // All that was told of a photo is answered.
  async settled(i) {
    for (let job; (job = this.jobs.find((each) => each.i === i)); ) await job.promise;
  }

  decide(i, state, seconds) {
    return this.add({ i, method: "PUT", path: `/api/photos/${i}/decision`, json: { state, seconds } });
  }

  retag(i, tags) {
    return this.add({ i, method: "PUT", path: `/api/photos/${i}/tags`, json: { tags } });
  }

  paint(i, data, touched) {
    const both = new Uint8Array(2 * data.length);
    both.set(data);
    both.set(touched, data.length);
    const waiting = this.jobs.find((job, place) => place > 0 && job.i === i && job.bytes); // not sent yet: replaced
    if (waiting && this.jobs.at(-1) === waiting) {
      waiting.bytes = both;
      return waiting.promise;
    }
    return this.add({ i, method: "PUT", path: `/api/photos/${i}/mask`, bytes: both });
  }

  reset(i) {
    return this.add({ i, method: "DELETE", path: `/api/photos/${i}/mask` });
  }

  step(event) {
    return this.add({ i: null, method: "POST", path: `/api/${event}` });
  }

  // All that was told is answered.
  async idle() {
    while (this.jobs.length) await this.jobs.at(-1).promise;
  }

  add(job) {
    job.id = `${Date.now()}-${Math.random()}`; // sent again after a lost answer it is known by this, and is not done twice
    job.tries = 0;
    job.promise = new Promise((resolve) => (job.resolve = resolve));
    this.jobs.push(job);
    if (!this.running) this.run();
    return job.promise;
  }

  async run() {
    this.running = true;
    this.told("busy");
    this.dropped = false;
    let wait = 400;
    while (this.jobs.length) {
      const job = this.jobs[0];
      const answer = await this.send(job).catch(() => null);
      if (!answer || job.tries++ < patience(answer.status)) {
        this.told("lost", answer && (await sentence(answer)));
        await new Promise((resolve) => setTimeout(resolve, wait));
        wait = Math.min(wait * 1.6, 4000);
        continue;
      }
      wait = 400;
      this.told("busy");
      await this.settle(job, answer);
    }
    this.running = false;
    this.told(this.dropped ? "dropped" : "saved");
  }

  async send(job) {
    const headers = { "X-Tagseg": "page", "X-Review": here.review, "Idempotency-Key": job.id };
    if (job.i !== null) Object.assign(headers, { "If-Match": `"${this.versions.get(job.i) ?? 0}"` }, this.meant(job.i));
    let body;
    if (job.json) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(job.json);
    } else if (job.bytes) {
      let more;
      [body, more] = await pack(job.bytes);
      Object.assign(headers, { "Content-Type": "application/octet-stream" }, more);
    }
    return fetch(job.path, { method: job.method, headers, body });
  }

  // A photo by its name: its number may be another one's after the server has begun anew.
  meant(i) {
    try {
      return { "X-Photo": encodeURIComponent(this.name(i)) };
    } catch {
      return { "X-List": here.list }; // a file name that is no text: the number counts, of this list alone
    }
  }

  async settle(job, answer) {
    const drop = () => {
      const lost = this.jobs.filter((each) => each === job || (job.i !== null && each.i === job.i));
      this.jobs = this.jobs.filter((each) => !lost.includes(each));
      for (const each of lost) each.resolve(undefined);
      this.dropped = true;
    };
    if (answer.ok) {
      const row = await answer.json();
      if (row) {
        row.i = job.i ?? this.number(row.name); // of this page's list
        this.versions.set(row.i, row.version);
      }
      this.jobs.shift();
      job.resolve(row);
    } else if (answer.status === 409) {
      drop();
      this.conflict(job.i);
    } else {
      const text = await sentence(answer);
      drop();
      this.refused(job.i, text);
    }
  }
}
