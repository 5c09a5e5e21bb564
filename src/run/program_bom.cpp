#include "run/program_bom.h"

#include <link.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFile = "sbom.cdx.json";

// glibc is the machine's own, wherever the program is started.
constexpr std::string_view kGlibc[] = {
    "ld-linux-x86-64.so.2", "libc.so.6",      "libdl.so.2", "libm.so.6",
    "libpthread.so.0",      "libresolv.so.2", "librt.so.1", "libutil.so.1"};

struct Bill {
  fs::path file, root;  // names of files in it begin at the root
};

Bill find_bill() {
  std::error_code unknown;
  const auto folder = fs::read_symlink("/proc/self/exe", unknown).parent_path();
  const auto packed = folder.parent_path() / "share/doc/retort" / kFile;
  if (fs::is_regular_file(packed)) return {packed, folder.parent_path()};
  if (fs::is_regular_file(folder / kFile)) return {folder / kFile, folder};
  throw RecipeError(
      fmt::format("{}: missing, and no package brought {}; tools/package sbom writes it for a build",
                  printable((folder / kFile).string()), printable(packed.string())));
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

class Comparison {
 public:
  explicit Comparison(const Bill& bill) : bill_(bill) {}

  void compare(const Json& components) {
    if (!components.is_array()) return;
    for (const auto& component : components) {
      if (!component.is_object())
        corrupt(bill_.file.string(), "components", "expected a list of objects, as CycloneDX has it");
      if (text_of(component, "type") == "file") compare_file(component);
      if (const auto parts = component.find("components"); parts != component.end()) compare(*parts);
    }
  }

  // Libraries that are mapped into this process.
  void compare_loaded() {
    std::vector<std::string> loaded;
    dl_iterate_phdr(
        [](dl_phdr_info* object, size_t, void* list) {
          static_cast<std::vector<std::string>*>(list)->emplace_back(object->dlpi_name);
          return 0;
        },
        &loaded);
    for (const auto& name : loaded) {
      if (name.find('/') == std::string::npos) continue;  // the program itself, and the kernel's own
      const auto path = fs::weakly_canonical(name);
      const auto is_known = [&](const fs::path& one) {
        return std::find(std::begin(kGlibc), std::end(kGlibc), one.filename().string()) != std::end(kGlibc);
      };
      if (!listed_.contains(path) && !is_known(name) && !is_known(path))
        differences.push_back(printable(name) + ": is loaded, and not listed");
    }
  }

  std::vector<std::string> differences;

 private:
  void compare_file(const Json& component) {
    const auto name = text_of(component, "name");
    const auto hashes = component.find("hashes");
    std::string recorded;
    if (hashes != component.end() && hashes->is_array())
      for (const auto& hash : *hashes)
        if (hash.is_object() && text_of(hash, "alg") == "SHA-256") recorded = text_of(hash, "content");
    if (name.empty() || recorded.empty())
      corrupt(bill_.file.string(), name, "a file without a name or a hash SHA-256");
    const auto path = fs::weakly_canonical(bill_.root / name);  // a name that begins with / stands alone
    listed_.insert(path);
    if (!fs::is_regular_file(path)) differences.push_back(printable(name) + ": is listed, and missing");
    else if (const auto found = sha256_file(path); found != recorded)
      differences.push_back(
          fmt::format("{}: has sha256 {}, listed with {}", printable(name), found, printable(recorded)));
  }

  const Bill& bill_;
  std::set<fs::path> listed_;
};

}  // namespace

ProgramBom read_program_bom() {
  const auto bill = find_bill();
  const auto text = read_text(bill.file, size_t{16} << 20);
  const auto json = parse_json(text, bill.file.string());
  if (!json.is_object() || text_of(json, "bomFormat") != "CycloneDX" || !json.contains("components"))
    corrupt(bill.file.string(), "", "expected a bill of materials in CycloneDX with components");
  Comparison comparison(bill);
  comparison.compare(json["components"]);
  comparison.compare_loaded();
  return {bill.file, text, std::move(comparison.differences)};
}

}  // namespace retort
