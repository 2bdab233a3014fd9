// The explorer: faces, maps and regions by hand. One module for two homes: with a kernel behind it (`render`, which
// anywidget calls), and in a page that holds everything itself (`mount(root, packed(...))`).

export default { render: ({ model, el: root }) => mount(root, kernel(model)) };

export function mount(root, source) {
  const explorer = new Explorer(root, source);
  return () => explorer.leave();
}

const PARTS = [withControls, withFaces, withPictures, withRegions, withMask, withCopies];

/** The state, and all that shows and changes it. */
class Explorer extends PARTS.reduce((made, part) => part(made), State) {}
