// Wide tables and blocks of code scroll sideways; the keyboard reaches them too.
document$.subscribe(() =>
  setTimeout(() => {
    for (const region of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
      region.tabIndex = 0;
    }
  }),
);
