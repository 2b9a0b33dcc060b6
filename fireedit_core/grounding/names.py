# SPDX-License-Identifier: GPL-3.0-or-later
"""The things that the shipped detector names, and what else people call them: synonyms, plurals, kinds of things.

    find("the red motorbikes") -> Name("motorbikes", ("motorcycle",), many=True)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# COCO's names in COCO's order, each with what else it is called. A word may stand for two: a bike is a bicycle or a motorcycle.
THINGS: dict[str, tuple[str, ...]] = {
    "person": (
        "human", "human being", "man", "woman", "boy", "girl", "kid", "child", "baby", "toddler", "teenager", "adult", "guy", "gal", "lady",
        "gentleman", "dude", "fellow", "bloke", "chap", "someone", "somebody", "individual", "pedestrian", "passer-by", "passerby",
        "walker",
        "bystander", "tourist", "stranger", "photobomber", "figure", "astronaut", "player", "footballer", "athlete", "coach driver",
        "driver",
        "rider", "cyclist", "biker", "worker", "photographer", "cameraman", "coach", "trainer", "manager", "model", "bride", "groom",
        "husband", "wife", "mother", "mom", "mum", "father", "dad", "son", "daughter", "brother", "sister", "friend", "grandma", "grandpa",
        "grandmother", "grandfather", "girlfriend", "boyfriend", "skier", "surfer", "skateboarder", "runner", "dancer", "singer",
        "musician",
        "soldier", "policeman", "policewoman", "police officer", "chef", "waiter", "waitress", "student", "teacher", "farmer", "swimmer",
        "businessman", "businesswoman", "spectator", "pal", "fisherman", "sailor", "hiker", "climber", "kiddo",
    ),
    "bicycle": ("bike", "push bike", "pushbike", "cycle", "mountain bike"),
    "car": ("automobile", "auto", "sedan", "suv", "taxi", "cab", "hatchback", "convertible", "sports car", "jeep", "limousine",
    "police car"),
    "motorcycle": ("motorbike", "motor bike", "motor cycle", "bike", "scooter", "moped", "chopper", "vespa"),
    "airplane": ("aeroplane", "plane", "aircraft", "jet", "airliner"),
    "bus": ("coach", "minibus", "omnibus", "double decker", "double-decker", "autobus"),
    "train": ("locomotive", "tram", "railway", "streetcar", "subway"),
    "truck": ("lorry", "pickup", "pick-up", "pickup truck", "van", "fire engine", "trailer"),
    "boat": ("ship", "sailboat", "yacht", "canoe", "kayak", "ferry", "vessel", "sailing boat", "rowboat", "gondola"),
    "traffic light": ("traffic signal", "stoplight", "stop light", "signal light", "semaphore"),
    "fire hydrant": ("hydrant",),
    "stop sign": ("traffic sign", "road sign", "street sign", "sign"),
    "parking meter": ("meter",),
    "bench": ("park bench",),
    "bird": (
        "pigeon", "seagull", "gull", "duck", "goose", "swan", "crow", "sparrow", "parrot", "owl", "eagle", "hen", "chicken", "rooster",
        "flamingo", "robin", "peacock", "penguin", "hawk",
    ),
    "cat": ("kitty", "kitten", "pussycat", "tomcat", "feline", "tabby", "kitty cat", "kittie", "pussy cat"),
    "dog": ("puppy", "pup", "doggy", "doggie", "hound", "canine", "poodle", "terrier", "labrador", "retriever", "pooch", "mutt", "husky"),
    "horse": ("pony", "foal", "stallion", "mare"),
    "sheep": ("lamb", "ram", "ewe"),
    "cow": ("cattle", "bull", "calf", "ox", "heifer"),
    "elephant": (),
    "bear": ("polar bear", "grizzly", "brown bear", "cub"),
    "zebra": (),
    "giraffe": (),
    "backpack": ("rucksack", "knapsack", "back pack", "schoolbag", "bag"),
    "umbrella": ("parasol", "sunshade", "brolly"),
    "handbag": ("purse", "shoulder bag", "hand bag", "bag", "tote"),
    "tie": ("necktie", "neck tie", "cravat", "bow tie", "bowtie"),
    "suitcase": ("luggage", "case", "trolley case", "baggage", "bag", "briefcase"),
    "frisbee": ("flying disc",),
    "skis": ("ski",),
    "snowboard": ("snow board",),
    "sports ball": ("ball", "football", "soccer ball", "basketball", "tennis ball", "volleyball", "baseball"),
    "kite": (),
    "baseball bat": ("bat",),
    "baseball glove": ("catcher's mitt", "mitt"),
    "skateboard": ("skate board", "longboard"),
    "surfboard": ("surf board",),
    "tennis racket": ("racket", "racquet", "tennis racquet"),
    "bottle": ("flask", "water bottle", "wine bottle", "beer bottle"),
    "wine glass": ("glass", "goblet", "champagne glass"),
    "cup": ("mug", "coffee cup", "teacup", "tea cup", "coffee mug", "tumbler", "paper cup", "coffee", "espresso", "cappuccino"),
    "fork": (),
    "knife": ("blade",),
    "spoon": ("teaspoon", "tea spoon", "tablespoon"),
    "bowl": ("dish", "saucer", "plate"),
    "banana": (),
    "apple": (),
    "sandwich": ("burger", "hamburger", "panini", "toast"),
    "orange": ("tangerine", "mandarin"),
    "broccoli": (),
    "carrot": (),
    "hot dog": ("hotdog", "sausage"),
    "pizza": (),
    "donut": ("doughnut",),
    "cake": ("pie", "cupcake", "birthday cake", "tart"),
    "chair": ("armchair", "stool", "seat"),
    "couch": ("sofa", "settee", "loveseat"),
    "potted plant": ("plant", "houseplant", "flowerpot", "flower pot", "pot plant", "house plant"),
    "bed": ("mattress",),
    "dining table": ("table", "desk", "tabletop", "kitchen table"),
    "toilet": ("loo", "lavatory"),
    "tv": ("television", "telly", "tv set", "monitor", "screen", "tvmonitor", "television set"),
    "laptop": ("notebook", "macbook", "computer", "laptop computer"),
    "mouse": ("computer mouse",),
    "remote": ("remote control", "controller", "clicker"),
    "keyboard": ("computer keyboard",),
    "cell phone": ("phone", "cellphone", "mobile phone", "mobile", "smartphone", "smart phone", "iphone", "telephone", "handy"),
    "microwave": ("microwave oven",),
    "oven": ("stove", "cooker"),
    "toaster": (),
    "sink": ("washbasin", "basin"),
    "refrigerator": ("fridge", "freezer"),
    "book": ("novel",),
    "clock": ("wall clock", "alarm clock", "watch"),
    "vase": (),
    "scissors": ("shears",),
    "teddy bear": ("teddy", "stuffed bear", "stuffed animal", "plush toy", "plushie", "soft toy"),
    "hair drier": ("hair dryer", "hairdryer", "blow dryer"),
    "toothbrush": ("tooth brush",),
}  # fmt: skip

# What the shipped detector's second look tells apart beyond COCO, where its first look boxes them. First animals, then things.
_MORE_ANIMALS: dict[str, tuple[str, ...]] = {
    "fish": ("goldfish",), "shark": (), "lizard": ("gecko", "iguana", "chameleon", "salamander"), "frog": ("toad",),
    "turtle": ("tortoise",), "crocodile": ("alligator",), "snake": ("python", "cobra"), "scorpion": (), "spider": ("tarantula",),
    "kangaroo": ("wallaby",), "koala": (), "jellyfish": (), "snail": (), "crab": (), "lobster": ("crayfish",), "whale": ("orca",),
    "seal": ("sea lion",), "wolf": ("coyote",), "hyena": (), "fox": (), "cougar": ("puma", "mountain lion"), "lynx": ("bobcat",),
    "leopard": ("jaguar", "panther"), "lion": ("lioness", "cub"), "tiger": ("tigress", "cub"), "cheetah": (), "meerkat": ("mongoose",),
    "ladybird": ("ladybug", "lady bug", "lady bird", "ladybeetle"), "beetle": ("bug",), "bee": ("bumblebee", "honey bee"), "ant": (),
    "grasshopper": ("cricket", "locust"), "mantis": ("praying mantis",), "dragonfly": ("damselfly",), "butterfly": (), "starfish": (),
    "rabbit": ("bunny", "hare"), "hamster": (), "porcupine": (), "squirrel": (), "marmot": (), "beaver": (), "guinea pig": (),
    "pig": ("hog", "boar", "piglet", "sow"), "hippopotamus": ("hippo",), "buffalo": ("bison",), "goat": ("ibex",),
    "antelope": ("gazelle", "impala", "deer", "fawn"), "camel": ("dromedary",), "llama": ("alpaca",), "weasel": ("ferret", "mink"),
    "otter": (), "skunk": (), "badger": (), "armadillo": (), "sloth": (),
    "monkey": ("ape", "gorilla", "chimpanzee", "chimp", "orangutan", "baboon"), "panda": ("panda bear",),
}  # fmt: skip
MORE_THINGS: dict[str, tuple[str, ...]] = _MORE_ANIMALS | {
    "balloon": (), "basket": (), "bucket": ("pail",), "camera": (), "candle": (), "teapot": ("coffeepot", "coffee pot", "tea pot"),
    "drum": (), "guitar": (), "violin": ("cello", "fiddle"), "piano": ("grand piano",), "helmet": (), "lamp": ("lampshade",),
    "microphone": ("mic",), "mailbox": ("letterbox", "letter box"), "printer": (), "pillow": ("cushion",), "pumpkin": (), "tent": (),
    "tractor": (), "flower": ("daisy", "blossom"), "mushroom": ("toadstool",), "strawberry": (), "lemon": (), "fig": (),
    "pineapple": (), "pomegranate": (), "pepper": ("bell pepper",), "cucumber": (), "corn": ("corn cob",),
    "ice cream": ("ice-cream", "ice lolly", "popsicle"),
}  # fmt: skip

ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", *_MORE_ANIMALS)
_FRUIT = ("banana", "apple", "orange", "strawberry", "lemon", "fig", "pineapple", "pomegranate")
_VEGETABLES = ("broccoli", "carrot", "pepper", "cucumber", "corn", "pumpkin", "mushroom")
_FOOD = (*_FRUIT, *_VEGETABLES, "sandwich", "hot dog", "pizza", "donut", "cake", "ice cream")
# Words for many things at once. A pet may be called a teddy bear by a detector, but nobody calls a teddy bear a pet.
GROUPS: dict[str, tuple[str, ...]] = {
    "animal": ANIMALS,
    "pet": ("cat", "dog", "bird", "rabbit", "hamster", "guinea pig"),
    "insect": ("ladybird", "beetle", "bee", "ant", "grasshopper", "mantis", "dragonfly", "butterfly"),
    "creature": (*ANIMALS, "person"),
    "vehicle": ("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "tractor"),
    "two-wheeler": ("bicycle", "motorcycle"),
    "fruit": _FRUIT,
    "vegetable": _VEGETABLES,
    "food": _FOOD,
    "snack": _FOOD,
    "furniture": ("chair", "couch", "bed", "dining table", "bench"),
    "cutlery": ("fork", "knife", "spoon"),
    "silverware": ("fork", "knife", "spoon"),
    "tableware": ("fork", "knife", "spoon", "cup", "bowl", "wine glass", "bottle"),
    "crockery": ("cup", "bowl"),
    "dishes": ("cup", "bowl", "wine glass"),
    "drink": ("cup", "bottle", "wine glass"),
    "electronics": ("tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    "appliance": ("microwave", "oven", "toaster", "refrigerator"),
    "instrument": ("guitar", "violin", "piano", "drum"),
    "musical instrument": ("guitar", "violin", "piano", "drum"),
    "luggage": ("suitcase", "backpack", "handbag"),
    "baggage": ("suitcase", "backpack", "handbag"),
}

# Words that mean several without the look of it, and words that look like several and are one.
_MANY = {
    "people": "person", "persons": "person", "men": "man", "women": "woman", "children": "child", "kids": "kid", "everyone": "person",
    "everybody": "person", "guys": "guy", "folks": "person", "crowd": "person", "couple": "person", "passers-by": "passer-by",
    "mice": "mouse",
    "knives": "knife", "geese": "goose", "oxen": "ox", "calves": "calf", "wives": "wife", "cutlery": "cutlery", "silverware": "silverware",
    "furniture": "furniture", "luggage": "luggage", "baggage": "baggage", "crockery": "crockery", "tableware": "tableware",
    "electronics": "electronics", "food": "food", "fruit": "fruit", "cattle": "cattle", "dishes": "dishes", "humans": "human",
    "anyone": "person",
    "anybody": "person", "wolves": "wolf",
    "policemen": "policeman", "passersby": "passerby", "firemen": "person", "shelves": "shelf", "leaves": "leaf",
}  # fmt: skip
_ONE = frozenset((
    "bus", "glass", "wine glass", "tennis", "dress", "mattress", "scissors", "shears", "skis", "canvas", "grass", "cross", "lens", "sheep",
    "sports", "waitress", "mantis", "sunglasses", "glasses", "jeans", "trousers", "shoes",
))  # fmt: skip
EVERYONE = ("everyone", "everybody", "anyone", "anybody")


@dataclass(frozen=True)
class Name:
    """A noun that was read.

    Attributes:
        text: as it was written. things: names of `THINGS` and `MORE_THINGS` that it may stand for. many: whether it is a plural, or
            means several.
    """

    text: str
    things: tuple[str, ...]
    many: bool = False


def singular(word: str) -> str:
    """The singular of an English noun, by its last word: "wine glasses" -> "wine glass"; a singular comes back as it is."""
    front, space, last = word.rpartition(" ")
    if last in _MANY:
        last = _MANY[last]
    elif last == "glasses":
        last = "glass"
    elif last in _ONE or len(last) < 4 or not last.endswith("s") or last.endswith(("ss", "us", "is")):
        pass
    elif last.endswith("ies"):
        last = last[:-3] + ("ie" if last[:-3] in ("mov", "cook", "t", "doggi", "zombi") else "y")
    elif last.endswith(("ches", "shes", "sses", "xes", "zes", "buses")):
        last = last[:-2]
    else:
        last = last[:-1]
    return front + space + last


def _index() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for thing, others in (THINGS | MORE_THINGS).items():
        for name in (thing, *others):
            found.setdefault(name, []).append(thing)
    for group, things in GROUPS.items():
        found[group] = list(things)
    return {name: tuple(dict.fromkeys(things)) for name, things in found.items()}


_INDEX = _index()
_LONGEST = max(len(name.split()) for name in _INDEX)


def lookup(text: str) -> Name | None:
    """The name that a text is, as a whole, singular or plural; None for what is no name."""
    text = re.sub(r"\s+", " ", text.strip().lower())
    for form in (text, singular(text)):
        if form in _INDEX:
            many = form != text or (text in _MANY and text not in THINGS)
            return Name(text, _INDEX[form], many)
    return None


def at_end(words: list[str]) -> tuple[Name, int] | None:
    """The longest name that a list of words ends with, and how many words it takes; None where the last word names nothing."""
    for count in range(min(_LONGEST, len(words)), 0, -1):
        name = lookup(" ".join(words[-count:]))
        if name:
            return name, count
    return None


def words_of(things: Iterable[str]) -> set[str]:
    """All words that stand for one of the things."""
    wanted = set(things)
    return {word for word, named in _INDEX.items() if wanted & set(named)}


# What other detectors call the same things.
_SPELLINGS = {
    "sofa": "couch", "aeroplane": "airplane", "motorbike": "motorcycle", "tvmonitor": "tv", "television": "tv",
    "diningtable": "dining table",
    "pottedplant": "potted plant", "cellphone": "cell phone", "mobile phone": "cell phone", "doughnut": "donut", "hair dryer": "hair drier",
    "ski": "skis", "people": "person", "man": "person", "woman": "person",
}  # fmt: skip


def label_name(label: str) -> str:
    """A detector's label in the form of `THINGS`: lower case, singular, another detector's spelling ("sofa", "aeroplane") as ours."""
    text = re.sub(r"[\s_]+", " ", label.strip().lower())
    if text in THINGS or text in MORE_THINGS:
        return text
    if text in _SPELLINGS:
        return _SPELLINGS[text]
    name = lookup(text)
    # "tram" is a word for a train here, but of a detector that knows trams it is a name of its own
    return singular(text) if name is None or name.many else text
