// The report in a real browser. Skipped, saying so, where there is none (tools/test installs chromium).
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "sample_page.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

std::string browser() {
  for (const char* path : {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"}) {
    if (fs::exists(path)) return path;
  }
  return "";
}

std::string output_of(const std::string& command) {
  std::string text;
  auto* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  for (size_t count; (count = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, count);
  pclose(pipe);
  return text;
}

// Measures the page after layout; what it finds becomes the title.
constexpr const char* kMeasure = R"(<script>
const boxes = [...document.querySelectorAll('svg .line')].map(line => line.getBBox());
document.title = JSON.stringify({
  lines: boxes.filter(box => box.width > 100 && box.height > 0).length,
  wide: document.documentElement.scrollWidth > innerWidth,
  fetched: performance.getEntriesByType('resource').length,
  ink: getComputedStyle(document.body).color,
  back: getComputedStyle(document.body).backgroundColor,
  tiles: document.querySelectorAll('.tile').length,
  high: document.body.scrollHeight});
</script></body>)";

}  // namespace

TEST(Render, TheReportLaysOutInABrowserInLightAndDark) {
  const auto program = browser();
  if (program.empty())
    GTEST_SKIP() << "no chromium on this machine; install the Debian package chromium to run this test";
  const auto folder = fs::temp_directory_path() / fmt::format("retort_render_{}", getpid());
  fs::create_directories(folder);
  auto html = page_html(sample_page());
  html.replace(html.find("</body>"), 7, kMeasure);
  write_text(folder / "report.html", html);
  for (const char* options :
       {"--window-size=1280,1600", "--window-size=1280,1600 --blink-settings=preferredColorScheme=0",
        "--window-size=620,1200"}) {
    const auto dom = output_of(
        fmt::format("HOME='{0}' timeout 60 {1} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
                    "--user-data-dir='{0}/profile' {2} --dump-dom 'file://{0}/report.html' 2>/dev/null",
                    folder.string(), program, options));
    const auto begin = dom.find("<title>"), end = dom.find("</title>");
    ASSERT_NE(begin, std::string::npos) << options;
    const auto seen = Json::parse(dom.substr(begin + 7, end - begin - 7));
    EXPECT_EQ(seen["lines"], 7) << options;  // two of the loss, its average and four others
    EXPECT_EQ(seen["wide"], false) << options;
    EXPECT_EQ(seen["fetched"], 0) << options;
    EXPECT_EQ(seen["tiles"], 4) << options;
    EXPECT_GT(seen["high"], 1200) << options;
    const bool dark = std::string(options).find("preferredColorScheme") != std::string::npos;
    EXPECT_EQ(seen["back"], dark ? "rgb(17, 20, 27)" : "rgb(246, 247, 249)");
    EXPECT_EQ(seen["ink"], dark ? "rgb(231, 234, 240)" : "rgb(26, 31, 43)");
  }
  if (const char* kept = std::getenv(
          "RETORT_SCREENSHOTS")) {  // for people: RETORT_SCREENSHOTS=/tmp report_test --gtest_filter=Render.*
    for (const auto& [name, options] : {std::pair("light", "--blink-settings=preferredColorScheme=1"),
                                        std::pair("dark", "--blink-settings=preferredColorScheme=0")}) {
      output_of(
          fmt::format("HOME='{0}' timeout 60 {1} --headless --no-sandbox --disable-gpu "
                      "--user-data-dir='{0}/profile' {2} --hide-scrollbars --window-size=1280,2300 "
                      "--screenshot='{3}/report-{4}.png' 'file://{0}/report.html' 2>/dev/null",
                      folder.string(), program, options, kept, name));
    }
  }
  fs::remove_all(folder);
}

}  // namespace retort
