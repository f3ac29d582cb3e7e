// What each action of keys.js does to the page.

export const ACTS = {
  accept: (app) => app.decide("accepted"), reject: (app) => app.decide("rejected"), later: (app) => app.decide("later"),
  undo: (app) => app.undo(), redo: (app) => app.redo(), next: (app) => app.go(), previous: (app) => app.go({ back: true }),
  view: (app) => app.panel.pick("view"), brush: (app) => app.panel.pick("brush"), eraser: (app) => app.panel.pick("eraser"),
  region: (app) => app.panel.pick("region"), grow: (app) => app.panel.pick("grow"),
  smaller: (app) => app.panel.resize(-1), larger: (app) => app.panel.resize(1),
  background: (app) => app.panel.choose(0), ignore: (app) => app.panel.choose(255), class: (app, more) => app.panel.choose(more),
  hide: (app) => app.stage.hide(true), unhide: (app) => app.stage.hide(false),
  outline: (app) => app.panel.toggle("show-outline"), cam: (app) => app.panel.toggle("show-cam"),
  opacity: (app) => app.panel.nextOpacity(), zoom: (app) => app.spotlight(0), nextspot: (app) => app.spotlight(1),
  fit: (app) => app.stage.fit(), tags: (app) => document.getElementById("classes").querySelector("input")?.focus(),
  help: (app) => document.getElementById("keys").showModal(), apply: (app) => app.painting.apply(),
};
