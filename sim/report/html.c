/* html.c - escaping, the page's head with its style, and the table sorter.
 *
 * The style has one column that narrows to a phone's width, tables that scroll by
 * themselves, and a print section.  The sorter is the page's only script: a click on a
 * column's head sorts by it, numbers as numbers; without scripts the table is in order of
 * the run id. */
#include "report.h"

void fpl_html_escaped(struct fpl_text *t, const char *text) {
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            fpl_text_add(t, "&amp;");
            break;
        case '<':
            fpl_text_add(t, "&lt;");
            break;
        case '>':
            fpl_text_add(t, "&gt;");
            break;
        case '"':
            fpl_text_add(t, "&quot;");
            break;
        default:
            fpl_text_append(t, text, 1);
        }
    }
}

static const char style[] =
    "body{font:16px/1.55 system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;color:#1c2126;"
    "background:#fff;max-width:62rem;margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.7rem;line-height:1.2;margin:.6rem 0}h2{font-size:1.25rem;margin:2.2rem 0 .5rem;"
    "border-bottom:1px solid #d5dae0;padding-bottom:.2rem}h3{font-size:1.05rem;margin:1.3rem 0 .3rem}\n"
    "img{max-width:100%;height:auto;display:block;margin:.6rem auto}"
    "figure{margin:1rem 0;break-inside:avoid}figcaption{font-size:.88rem;color:#4b5560}\n"
    ".scroll{overflow-x:auto;margin:.6rem 0}table{border-collapse:collapse;font-size:.88rem;"
    "font-variant-numeric:tabular-nums}th,td{padding:.2rem .6rem;text-align:right;"
    "border-bottom:1px solid #e4e8ec;white-space:nowrap}th{background:#f3f5f7;text-align:right}"
    "th:first-child,td:first-child,.l{text-align:left}\n"
    "table.sort th{cursor:pointer;position:sticky;top:0}table.sort th[data-d]:after{content:' \\25B2'}"
    "table.sort th[data-d='-']:after{content:' \\25BC'}\n"
    ".runs{max-height:34rem;overflow:auto}pre{background:#f6f7f9;padding:.7rem;overflow-x:auto;"
    "font-size:.82rem;line-height:1.4}.note{color:#4b5560;font-size:.92rem}.bad{color:#a11d1d}\n"
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(19rem,1fr));gap:.6rem}\n"
    "@media print{body{max-width:none;font-size:10.5pt;padding:0}.runs{max-height:none;overflow:visible}"
    "pre{white-space:pre-wrap}h2{break-after:avoid}tr{break-inside:avoid}}\n";

static const char sorter[] =
    "<script>\n"
    "document.querySelectorAll('table.sort').forEach(function(t){\n"
    " var heads=t.tHead.rows[0].cells;\n"
    " Array.prototype.forEach.call(heads,function(h,i){h.tabIndex=0;\n"
    "  function go(){var down=h.dataset.d==='+';\n"
    "   Array.prototype.forEach.call(heads,function(o){delete o.dataset.d});h.dataset.d=down?'-':'+';\n"
    "   var rows=Array.prototype.slice.call(t.tBodies[0].rows);\n"
    "   rows.sort(function(a,b){var "
    "x=a.cells[i].textContent,y=b.cells[i].textContent,u=parseFloat(x),v=parseFloat(y),c;\n"
    "    if(isNaN(u)||isNaN(v)){c=isNaN(u)&&isNaN(v)?(x<y?-1:x>y?1:0):isNaN(u)?1:-1}else{c=u-v}\n"
    "    return down?-c:c});\n"
    "   rows.forEach(function(r){t.tBodies[0].appendChild(r)})}\n"
    "  "
    "h.addEventListener('click',go);h.addEventListener('keydown',function(e){if(e.key==='Enter')go()})})});\n"
    "</script>\n";

void fpl_html_begin(struct fpl_text *t, const char *title) {
    fpl_text_add(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    fpl_html_escaped(t, title);
    fpl_text_add(t, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<h1>", style);
    fpl_html_escaped(t, title);
    fpl_text_add(t, "</h1>\n");
}

void fpl_html_end(struct fpl_text *t, const char *version) {
    fpl_text_add(t, "<p class=\"note\">Written by fplaw ");
    fpl_html_escaped(t, version);
    fpl_text_add(
        t, ". Losses are in nats per token; N counts non-vocabulary parameters, D trained tokens.</p>\n");
    fpl_text_append(t, sorter, sizeof sorter - 1);
    fpl_text_add(t, "</body>\n</html>\n");
}
