# SPDX-License-Identifier: GPL-3.0-or-later
"""What people call ImageNet's 1000 classes: an everyday name -> the numbers of its classes, in their usual order (tench is 0).

COCO's names where COCO has one, so that they meet those of the detector. What is no thing that one would edit (a cliff, a shop), what is
worn by persons, and what a word does not tell apart from another (red wine is in a bottle as in a glass) has no name.
"""

from __future__ import annotations

from fireedit_core.regions.efficientnet import CLASSES

LIVING = {
    "bird": "7-24 80-100 127-146", "cat": "281-285", "dog": "151-268 273-275", "horse": "339", "sheep": "348-349", "cow": "345",
    "elephant": "101 385-386", "bear": "294-297", "zebra": "340",
    "fish": "0-1 389-397", "shark": "2-4", "lizard": "25-29 38-48", "frog": "30-32", "turtle": "33-37",
    "crocodile": "49-50", "snake": "52-68", "scorpion": "71", "spider": "70 72-77", "kangaroo": "104", "koala": "105",
    "jellyfish": "107", "snail": "113", "crab": "118-121 125", "lobster": "122-124", "whale": "147-148", "seal": "150",
    "wolf": "269-272", "hyena": "276", "fox": "277-280", "cougar": "286", "lynx": "287", "leopard": "288-290", "lion": "291",
    "tiger": "292", "cheetah": "293", "meerkat": "298-299", "ladybird": "301", "beetle": "300 302-307", "bee": "309",
    "ant": "310", "grasshopper": "311-312", "mantis": "315", "dragonfly": "319-320", "butterfly": "321-326", "starfish": "327",
    "rabbit": "330-332", "hamster": "333", "porcupine": "334", "squirrel": "335", "marmot": "336", "beaver": "337", "guinea pig": "338",
    "pig": "341-343", "hippopotamus": "344", "buffalo": "346-347", "goat": "350", "antelope": "351-353", "camel": "354", "llama": "355",
    "weasel": "356-359", "otter": "360", "skunk": "361", "badger": "362", "armadillo": "363", "sloth": "364", "monkey": "365-384",
    "panda": "387-388",
}  # fmt: skip
THINGS = {
    "bicycle": "444 671", "car": "407 436 468 475 479 511 575 581 609 627 656 661 751 817", "motorcycle": "665 670",
    "airplane": "404 895", "bus": "654 779 874", "train": "466 547 565 705 820 829", "truck": "555 569 675 717 734 757 864 867",
    "boat": "472 484 510 554 576 625 628 724 780 814 871 914", "traffic light": "920", "stop sign": "919", "parking meter": "704",
    "bench": "703", "backpack": "414", "umbrella": "879", "handbag": "636 748", "tie": "457 906", "skis": "795",
    "sports ball": "429 430 574 722 768 805 852 890", "tennis racket": "752", "bottle": "440 720 737 898 907", "wine glass": "572",
    "cup": "441 504 647 967 968", "spoon": "910", "bowl": "659 809", "banana": "954", "apple": "948", "sandwich": "933",
    "orange": "950", "broccoli": "937", "hot dog": "934", "pizza": "963", "chair": "423 559 765 857", "couch": "831",
    "potted plant": "738", "bed": "564", "dining table": "532 526", "toilet": "861", "tv": "664 782 851", "laptop": "620 681",
    "mouse": "673", "remote": "761", "keyboard": "508 878", "cell phone": "487", "microwave": "651", "oven": "827", "toaster": "859",
    "sink": "896", "refrigerator": "760", "book": "917 921", "clock": "409 530 531 826 892", "vase": "883", "teddy bear": "850",
    "hair drier": "589",
    "balloon": "417", "basket": "790", "bucket": "463", "camera": "732 759", "candle": "470", "teapot": "505 849", "drum": "541",
    "guitar": "402 546", "violin": "486 889", "piano": "579 881", "helmet": "518 560", "lamp": "619 846",
    "microphone": "650", "mailbox": "637", "printer": "742", "pillow": "721", "pumpkin": "607",
    "tent": "672", "tractor": "866", "flower": "985-986", "mushroom": "947 991-997",
    "strawberry": "949", "lemon": "951", "fig": "952", "pineapple": "953", "pomegranate": "957", "pepper": "945", "cucumber": "943",
    "corn": "987", "ice cream": "928-929",
}  # fmt: skip


def numbers(text: str) -> list[int]:
    """ "7-9 12" -> [7, 8, 9, 12]."""
    found = []
    for part in text.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def names() -> list[str]:
    """For each class its everyday name, "" where it has none.

    Raises:
        ValueError: for a class with two names.
    """
    found = [""] * CLASSES
    for name, text in (LIVING | THINGS).items():
        for number in numbers(text):
            if found[number]:
                raise ValueError(f"class {number} is called {found[number]!r} and {name!r}")
            found[number] = name
    return found
