// Which files a source is, and how they are read.
#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/letters.h"
#include "data/rows.h"
#include "data/saved_dataset.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormats = "jsonl, json, csv, parquet, arrow, text, lines, icd10cm or licences";

// "" where the ending does not say it.
std::string format_of(const fs::path& file) {
  const auto ending = ending_of(file);
  if (ending == ".jsonl" || ending == ".ndjson") return "jsonl";
  if (ending == ".json") return "json";
  if (ending == ".csv" || ending == ".tsv") return "csv";
  if (ending == ".parquet" || ending == ".pq") return "parquet";
  if (ending == ".arrow" || ending == ".arrows" || ending == ".feather" || ending == ".ipc") return "arrow";
  if (ending == ".txt") return "text";
  if (ending == ".xml") return "icd10cm";
  return "";
}

// Files of office programs are none of records or text.
void refuse_office_file(const fs::path& file) {
  constexpr std::pair<std::string_view, const char*> kOffice[] = {
      {".xlsx", "is an Excel file; save the sheet as CSV (UTF-8) and name that"},
      {".xlsm", "is an Excel file; save the sheet as CSV (UTF-8) and name that"},
      {".xls", "is an Excel file; save the sheet as CSV (UTF-8) and name that"},
      {".ods", "is a spreadsheet; save the sheet as CSV (UTF-8) and name that"},
      {".docx", "is a Word file; save it as plain text (.txt) and name that"},
      {".doc", "is a Word file; save it as plain text (.txt) and name that"},
      {".odt", "is a file of a word processor; save it as plain text (.txt) and name that"},
      {".rtf", "is a file of a word processor; save it as plain text (.txt) and name that"},
      {".pdf", "is a PDF file; save its text as .txt and name that"},
  };
  const auto ending = lower_case(file.extension().string());
  for (const auto& [office, what] : kOffice)
    if (ending == office) corrupt(file.string(), "", what);
}

bool is_pattern(const std::string& path) {
  return path.find_first_of("*?[") != std::string::npos && !fs::exists(path);
}

std::vector<std::string> matching(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> files;
  for (size_t i = 0; result == 0 && i < found.gl_pathc; ++i)
    if (fs::is_regular_file(found.gl_pathv[i])) files.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  if (files.empty())
    throw RecipeError(fmt::format("data.sources.path: no file matches '{}'", printable(pattern)));
  std::sort(files.begin(), files.end());
  return files;
}

// The one format of all these files.
std::string common_format(const std::vector<std::string>& files, const std::string& path) {
  std::string format;
  const std::string* first = nullptr;
  for (const auto& file : files) {
    const auto own = format_of(file);
    if (own.empty()) refuse_office_file(file);
    if (own.empty())
      throw RecipeError(fmt::format("data.sources.format: '{}' does not say how it is read; set format to {}",
                                    printable(file), kFormats));
    if (first && own != format)
      throw RecipeError(
          fmt::format("data.sources.path: {}: names files of several formats, {} and {}; set format, or name "
                      "those that are meant with a pattern such as {}/*.{}",
                      printable(path), printable(*first), printable(file),
                      printable(fs::path(path).parent_path().string()), format));
    format = own, first = &file;
  }
  return format;
}

// Is this one to train on, or one to test on?
enum class Part { neither, train, test };
Part part_of(const fs::path& file) {
  const auto name = file.filename().string();
  constexpr std::string_view kTest[] = {"test", "validation", "valid", "val", "dev", "eval", "heldout"};
  for (size_t begin = 0; begin < name.size();) {
    size_t end = begin;
    while (end < name.size() && std::isalpha(static_cast<unsigned char>(name[end]))) ++end;
    const auto word = lower_case(std::string_view(name).substr(begin, end - begin));
    if (word == "train" || word == "training") return Part::train;
    if (std::find(std::begin(kTest), std::end(kTest), word) != std::end(kTest)) return Part::test;
    begin = end + 1;
  }
  return Part::neither;
}

// Parts to test on among those to train on would be learned without a word.
void require_one_part(const std::vector<std::string>& files, const std::string& path) {
  const std::string* seen[3] = {};
  for (const auto& file : files) seen[static_cast<size_t>(part_of(file))] = &file;
  const auto *train = seen[static_cast<size_t>(Part::train)], *test = seen[static_cast<size_t>(Part::test)];
  if (train && test)
    throw RecipeError(fmt::format(
        "data.sources.path: {}: names files to train on and files to test on, {} and {}; name those that are "
        "meant with a pattern, and the others as a source with use: held_out",
        printable(path), printable(*train), printable(*test)));
}

// Files that are named for the split: train.jsonl, train-00000-of-00002.parquet, cases-train.arrow.
std::vector<std::string> of_split(std::vector<std::string> files, const SourceSpec& source) {
  const auto belongs = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  std::erase_if(files, [&](const std::string& file) {
    const auto name = fs::path(file).filename().string();
    for (auto at = name.find(source.split); at != name.npos; at = name.find(source.split, at + 1))
      if ((at == 0 || !belongs(name[at - 1])) && !belongs(name[at + source.split.size()])) return false;
    return true;
  });
  if (files.empty())
    throw RecipeError(fmt::format("data.sources.split: {} holds no file that is named for the split '{}'",
                                  printable(source.path), printable(source.split)));
  return files;
}

bool wanted_in_folder(const fs::path& file, const std::string& format) {
  const auto own = format_of(file);
  if (file.filename().string().starts_with('.')) return false;
  if (format == "auto")
    return own == "jsonl" || own == "json" || own == "csv" || own == "parquet" || own == "arrow";
  return own == (format == "lines" ? "text" : format);
}

// Files of a folder, not of those below it.
std::vector<std::string> files_in(const SourceSpec& source) {
  const auto& format = source.format;
  std::vector<std::string> files;
  std::string other;
  const bool old = format == "licences" || format == "text";
  for (const auto& entry : fs::directory_iterator(source.path)) {
    const auto& path = entry.path();
    if (!entry.is_regular_file()) continue;
    if (old ? path.extension() == (format == "licences" ? ".LICENSE" : ".txt")
            : wanted_in_folder(path, format))
      files.push_back(path.string());
    else if (path.extension() == ".txt") other = path.string();
  }
  std::sort(files.begin(), files.end());
  if (old) {
    if (files.empty())
      corrupt(source.path, "", format == "licences" ? "holds no *.LICENSE file" : "holds no *.txt file");
    return files;
  }
  for (const auto& entry : fs::recursive_directory_iterator(source.path))
    if (entry.path().parent_path() != fs::path(source.path) && entry.is_regular_file() &&
        entry.path().parent_path().string().find("/.") == std::string::npos &&
        wanted_in_folder(entry.path(), format))
      throw RecipeError(fmt::format(
          "data.sources.path: {}: files of folders below are not read, and {} is one; name those that are "
          "meant with a pattern such as {}/*/*.jsonl",
          printable(source.path), printable(entry.path().string()), printable(source.path)));
  if (files.empty())
    throw RecipeError(fmt::format(
        "data.sources.path: {}: is a folder without .jsonl, .json, .csv, .parquet or .arrow files{}",
        printable(source.path), other.empty() ? "" : "; set format to text or lines to read .txt files"));
  return files;
}

}  // namespace

std::string ending_of(const fs::path& path) {
  const bool packed = path.extension() == ".gz" || path.extension() == ".zst";
  return (packed ? path.stem() : path).extension().string();
}

std::string source_format(const SourceSpec& source) {
  if (source.format != "auto") return source.format;
  if (fs::is_directory(source.path) || is_pattern(source.path))
    return common_format(source_files(source), source.path);
  const auto format = format_of(source.path);
  if (format.empty()) refuse_office_file(source.path);
  if (format.empty())
    throw RecipeError(fmt::format("data.sources.format: '{}' does not say how it is read; set format to {}",
                                  printable(source.path), kFormats));
  return format;
}

void require_sources(const std::vector<SourceSpec>& sources) {
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto& path = sources[i].path;
    std::error_code error;
    if (is_pattern(path) || fs::status(path, error).type() != fs::file_type::not_found) continue;
    throw RecipeError(
        fmt::format("data.sources[{}].path: {}: no such file or folder (paths are relative to the "
                    "current folder)",
                    i, printable(path)));
  }
}

std::vector<std::string> source_files(const SourceSpec& source) {
  const bool folder = fs::is_directory(source.path);
  if (folder && is_saved_dataset(source.path)) {
    if (source.format != "auto" && source.format != "arrow")
      throw RecipeError(
          fmt::format("data.sources.format: {} was saved by `datasets`, whose files are Arrow's; "
                      "leave format out",
                      printable(source.path)));
    return saved_dataset_files(source.path, source.split);
  }
  if (!folder && !source.split.empty())
    throw RecipeError(
        fmt::format("data.sources.split: {} is no folder; a split is chosen in a folder that "
                    "`datasets` saved, or whose files are named for their splits",
                    printable(source.path)));
  if (!folder && !is_pattern(source.path)) return {source.path};
  auto files = folder ? files_in(source) : matching(source.path);
  if (!source.split.empty()) files = of_split(std::move(files), source);
  if (source.format == "auto") common_format(files, source.path);
  if (source.format != "licences") require_one_part(files, source.path);
  return files;
}

}  // namespace retort
