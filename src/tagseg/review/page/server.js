// What the page asks of its server: reads at once, writes one after another until each is answered.

export class Refused extends Error {}

export async function read(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Refused(await sentence(answer));
  return answer.json();
}

export async function readMask(i) {
  const answer = await fetch(`/api/photos/${i}/mask`);
  if (!answer.ok) throw new Refused(await sentence(answer));
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

async function pack(bytes) {
  if (!("CompressionStream" in window)) return [bytes, {}];
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return [await new Response(stream).arrayBuffer(), { "Content-Encoding": "gzip" }];
}

export class Writes {
  // told: called with "saved", "busy" or "lost". conflict, refused: called with the photo's number, and a sentence.
  constructor({ told, conflict, refused }) {
    Object.assign(this, { told, conflict, refused });
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
    // Sent again after a lost answer it is known by this, and takes no second decision back.
    const id = `${Date.now()}-${Math.random()}`;
    return this.add({ i: null, method: "POST", path: `/api/${event}`, id });
  }

  add(job) {
    job.promise = new Promise((resolve) => (job.resolve = resolve));
    this.jobs.push(job);
    if (!this.running) this.run();
    return job.promise;
  }

  async run() {
    this.running = true;
    this.told("busy");
    let wait = 400;
    while (this.jobs.length) {
      const job = this.jobs[0];
      let answer;
      try {
        answer = await this.send(job);
      } catch {
        job.retried = true;
        this.told("lost");
        await new Promise((resolve) => setTimeout(resolve, wait));
        wait = Math.min(wait * 1.6, 4000);
        continue;
      }
      wait = 400;
      this.told("busy");
      await this.settle(job, answer);
    }
    this.running = false;
    this.told("saved");
  }

  async send(job) {
    const headers = { "X-Tagseg": "page" };
    if (job.id) headers["Idempotency-Key"] = job.id;
    if (job.i !== null) headers["If-Match"] = `"${this.versions.get(job.i) ?? 0}"`;
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

  async settle(job, answer) {
    const drop = () => {
      const lost = this.jobs.filter((each) => each === job || (job.i !== null && each.i === job.i));
      this.jobs = this.jobs.filter((each) => !lost.includes(each));
      for (const each of lost) each.resolve(undefined);
    };
    if (answer.ok) {
      const row = await answer.json();
      if (row) this.versions.set(row.i, row.version);
      this.jobs.shift();
      job.resolve(row);
    } else if (answer.status === 409) {
      if (job.retried) {
        // The answer to the first try may have been lost with the connection: then the change is there already.
        const row = await read(`/api/photos/${job.i}`).catch(() => null);
        if (row && row.version === (this.versions.get(job.i) ?? 0) + 1) {
          this.versions.set(job.i, row.version);
          this.jobs.shift();
          job.resolve(row);
          return;
        }
      }
      drop();
      this.conflict(job.i);
    } else {
      const text = await sentence(answer);
      drop();
      this.refused(job.i, text);
    }
  }
}
