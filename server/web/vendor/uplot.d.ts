/** The browser gets the package's own module at this place (server/routes/pages.ts). */
export { default } from 'uplot';
